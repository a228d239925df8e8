/** The trained model of a clone of demask, which the npm package does not carry. Needs Node. */

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../io/user-error.ts'

/** Path of the model. Throws UsageError where there is none. */
export function shippedModel(): string {
  const path = fileURLToPath(new URL('../docs/public/playground/mdt-tiny.safetensors', import.meta.url))
  if (existsSync(path)) return path
  throw new UsageError('--from: expected a run, a checkpoint or a file of weights, got none')
}
