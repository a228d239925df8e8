/**
 * Files in the user's cache directory: results that can be computed again. Needs Node. A file begins with the SHA-256 of the
 * rest and appears whole, so that one that is damaged, or half written by another process, counts as absent. Nothing here
 * throws: without a cache, results are computed again.
 */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { writeAside } from './aside.ts'

const checksumBytes = 32

/** Returns demask's folder for cached files. XDG_CACHE_HOME chooses another place than the platform's. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env, platform: string = process.platform): string {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = env
  if (XDG_CACHE_HOME) return join(XDG_CACHE_HOME, 'demask')
  if (platform === 'win32' && LOCALAPPDATA) return join(LOCALAPPDATA, 'demask', 'Cache')
  return join(homedir(), platform === 'darwin' ? 'Library/Caches' : '.cache', 'demask')
}

/** Returns the bytes that were cached under a name; null where there are none, or where they are damaged. */
export function readCached(name: string): Uint8Array | null {
  try {
    const file = readFileSync(join(cacheFolder(), name))
    const content = file.subarray(checksumBytes)
    return checksum(content).equals(file.subarray(0, checksumBytes)) ? content : null
  } catch {
    return null
  }
}

/** Caches bytes under a name, where the cache can be written. */
export async function writeCached(name: string, content: Uint8Array): Promise<void> {
  try {
    const folder = cacheFolder()
    mkdirSync(folder, { recursive: true })
    await writeAside(join(folder, name), aside => writeFile(aside, Buffer.concat([checksum(content), content])))
  } catch {
    // A cache that cannot be written, on a full disk or in a container, saves no time and does no harm.
  }
}

function checksum(content: Uint8Array): Buffer {
  return createHash('sha256').update(content).digest()
}
