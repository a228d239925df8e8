/**
 * Which backend new tensors go to. `cpu` until `await ready()` (ready.ts) has chosen a faster one.
 */

import { aBackend, check } from './arguments.ts'
import type { Backend } from './backend.ts'
import { cpu } from './backends/cpu/backend.ts'

let chosen: Backend = cpu

/** Where tensors are made that are not told where: what `ready` loaded last, `cpu` before. */
export function defaultBackend(): Backend {
  return chosen
}

/** New tensors go to `backend` from now on; existing ones stay where they are. */
export function setDefaultBackend(backend: Backend): void {
  check('setDefaultBackend', 'backend', backend, aBackend)
  chosen = backend
}
