/** Serves site/dist for the site's tests and benchmark, with or without the headers that let a page share memory. Needs Node. */

import { existsSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join } from 'node:path'
import { isolation } from '../../site/isolation.ts'
import { root } from '../../site/regions.ts'

export const dist = join(root, 'site/dist')

/** True if `npm run site:build` was run. */
export const built = existsSync(join(dist, 'index.html'))

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.webp': 'image/webp',
  '.woff2': 'font/woff2',
  '.wasm': 'application/wasm',
}

export interface SiteServer {
  readonly address: string
  close(): void
}

/** Listens on a port of its own. */
export async function serveSite({ isolated }: { readonly isolated: boolean }): Promise<SiteServer> {
  const server = createServer(({ url }, response) => {
    const path = join(dist, decodeURIComponent(new URL(url!, 'http://site').pathname))
    const file = statSync(path, { throwIfNoEntry: false })?.isDirectory() ? join(path, 'index.html') : path
    const found = existsSync(file)
    const type = types[extname(file)] ?? 'application/octet-stream'
    // Names of these files change with their content.
    const kept = url!.startsWith('/assets/') ? { 'Cache-Control': 'max-age=3600' } : {}
    response.writeHead(found ? 200 : 404, { 'Content-Type': type, ...kept, ...(isolated ? isolation : {}) })
    response.end(found ? readFileSync(file) : '')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { address: `http://127.0.0.1:${port}`, close: () => server.close() }
}
