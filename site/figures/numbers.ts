/** Tables of the tour whose numbers are computed: Markdown by name. site/code.ts writes them into the pages. */

import { adaln } from './adaln.ts'
import { multiplyTables } from './multiply-tables.ts'
import { trainingTables } from './training-tables.ts'

/** Tables by name. */
export const numbers: Readonly<Record<string, () => string>> = { ...multiplyTables, ...adaln, ...trainingTables }
