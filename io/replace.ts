/**
 * A file that is the old one or the new one, whatever happens while it is written. Needs Node.
 */

import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { aString, aUint8Array, check, either } from '../core/arguments.ts'
import { reason, UserError } from './user-error.ts'

const aContent = either(aString, aUint8Array)

/** Writes `content` aside, forces it to the disk and gives it its name. Throws UserError; then the old file is as it was. */
export function replaceFile(path: string, content: string | Uint8Array): void {
  check('replaceFile', 'path', path, aString)
  check('replaceFile', 'content', content, aContent)
  const aside = `${path}.tmp`
  try {
    writeFileSync(aside, content, { flush: true })
    renameSync(aside, path)
  } catch (error) {
    rmSync(aside, { force: true })
    throw new UserError(`${path}: could not be written: ${reason(error)}`, { cause: error })
  }
}
