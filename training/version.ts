/** Which demask this is, and what it runs on. Needs Node. */

import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** The version in package.json, which is one folder up from the source and two from what is built. */
export function version(): string {
  for (const place of ['../package.json', '../../package.json']) {
    const file = new URL(place, import.meta.url)
    const found: { name?: string; version?: string } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
    if (found.name === 'demask' && found.version !== undefined) return found.version
  }
  return 'unknown'
}

/** What a person wants to know years later of the machine that a run began on. */
export function versions(): Record<string, string> {
  const processors = cpus()
  return {
    demask: version(),
    Node: process.versions.node,
    system: `${process.platform} ${process.arch}`,
    processor: `${processors.length} × ${processors[0]?.model.trim() || 'unknown'}`,
  }
}
