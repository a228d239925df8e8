/** How a component reaches the worker (host.ts): one for the whole site, started when a playground is opened. */

import { type Remote, wrap } from 'comlink'
import type { Studio } from './studio.ts'

let studio: Remote<Studio> | null = null

export function openStudio(): Remote<Studio> {
  studio ??= wrap<Studio>(new Worker(new URL('./host.ts', import.meta.url), { type: 'module' }))
  return studio
}
