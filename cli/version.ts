/** Which version of demask this is. Needs Node. */

import { existsSync, readFileSync } from 'node:fs'

/** What package.json says: it is one folder up from the source, and two from what is built. */
export function version(): string {
  for (const place of ['../package.json', '../../package.json']) {
    const file = new URL(place, import.meta.url)
    const found: { name?: string; version?: string } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
    if (found.name === 'demask' && found.version !== undefined) return found.version
  }
  return 'unknown'
}
