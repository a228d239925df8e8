/** The program of the playground's worker: a studio whose methods the page calls (worker.ts). */

import { expose } from 'comlink'
import { Studio } from './studio.ts'

expose(new Studio())
