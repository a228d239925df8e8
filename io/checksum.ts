/** The SHA-256 of a file, as sha256sum prints it. Needs Node. */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

/** Reads a file piece by piece, whatever its size. Rejects with Node's error where it cannot be read. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Uint8Array)
  return hash.digest('hex')
}
