/**
 * demask in a browser: a bundle of the source in headless Chromium, on a page that is cross-origin isolated and on one
 * that is not, against the same program in Node. Skipped where there is no Chromium. Needs Node.
 */

import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { type Browser, chromium } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Report, run } from './browser-page.ts'

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
const inBrowser = executable === undefined ? test.skip : test

let server: Server
let browser: Browser | undefined

/** The page's program as one script that leaves `demask.run` behind. */
async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('browser-page.ts', import.meta.url))],
    bundle: true,
    format: 'iife',
    globalName: 'demask',
    platform: 'browser',
    target: 'es2022',
    external: ['gpu.js'],
    write: false,
  })
  return outputFiles[0].text
}

test.before(async () => {
  if (executable === undefined) return
  const script = await bundle()
  const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
  server = createServer(({ url }, response) => {
    const headers = url!.startsWith('/isolated/') ? isolation : {}
    const isScript = url!.endsWith('.js')
    response.writeHead(200, { 'Content-Type': `text/${isScript ? 'javascript' : 'html'}; charset=utf-8`, ...headers })
    response.end(isScript ? script : '<!doctype html><link rel="icon" href="data:,"><script src="program.js"></script>')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  browser = await chromium.launch({
    executablePath: executable,
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--no-first-run',
    ],
  })
})

test.after(async () => {
  await browser?.close()
  server?.close()
})

/** What the program reports from a page, one report for each number of threads, and what the page said meanwhile. */
async function report(folder: string, threads: readonly number[]): Promise<{ reports: Report[]; said: string[] }> {
  const page = await browser!.newPage()
  const said: string[] = []
  page.on('console', message => said.push(message.text()))
  page.on('pageerror', error => said.push(error.message))
  const { port } = server.address() as AddressInfo
  await page.goto(`http://127.0.0.1:${port}/${folder}/`)
  const reports: Report[] = []
  for (const count of threads)
    reports.push(
      await page.evaluate(n => (globalThis as unknown as { demask: { run: typeof run } }).demask.run(n), count),
    )
  await page.close()
  return { reports, said }
}

/** The kernels give Node's bytes, and training Node's losses, but for what the engines' own exp, sin and cos differ in. */
function checkAgainstNode(got: Report, wanted: Report): void {
  assert.is(got.build, wanted.build)
  assert.equal(got.digests, wanted.digests)
  assert.is(got.losses.length, wanted.losses.length)
  got.losses.forEach((loss, i) => {
    assert.ok(Math.abs(loss / wanted.losses[i] - 1) < 1e-4, `loss ${i}: ${loss}, in Node ${wanted.losses[i]}`)
    if (i > 0) assert.ok(loss < got.losses[i - 1], `losses fall: ${got.losses.join(' ')}`)
  })
}

inBrowser('an isolated page: two threads, the bytes of Node, and training', async () => {
  const { reports, said } = await report('isolated', [2])
  assert.equal(said, [])
  assert.is(reports[0].threads, 2)
  assert.is(reports[0].workers, 1)
  checkAgainstNode(reports[0], await run(1))
})

inBrowser('a page without isolation: one thread, said once, and the same results', async () => {
  const { reports, said } = await report('plain', [2, 2])
  assert.is(said.length, 1)
  assert.match(said[0], /^wasm: one thread only: the page is not cross-origin isolated/)
  const wanted = await run(1)
  for (const found of reports) {
    assert.is(found.threads, 1)
    assert.is(found.workers, 0)
    checkAgainstNode(found, wanted)
  }
})

test.run()
