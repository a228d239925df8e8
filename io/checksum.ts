/** The SHA-256 of a file, as sha256sum prints it. Needs Node. */

import { createHash } from 'node:crypto'
import { aString, check } from '../core/arguments.ts'
import { streamFile } from './open-node.ts'

/** Reads a file piece by piece, whatever its size. Rejects as `openRegular` where it cannot be read. */
export async function sha256Of(path: string): Promise<string> {
  check('sha256Of', 'path', path, aString)
  const hash = createHash('sha256')
  for await (const piece of streamFile(path)) hash.update(piece as Uint8Array)
  return hash.digest('hex')
}
