/**
 * demask in a browser: a bundle of the source in headless Chromium, on a page that is cross-origin isolated and on one
 * that is not, against the same program in Node. Skipped where there is no Chromium; webgpu/browser.test.ts has WebGPU.
 * Needs Node.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type BrowserHost, executable, openBrowser } from './browser-host.ts'
import { type Report, run } from './browser-page.ts'

const inBrowser = executable === undefined ? test.skip : test
let host: BrowserHost | undefined

test.before(async () => {
  if (executable !== undefined) host = await openBrowser(['--disable-gpu'], { external: ['gpu.js'] })
})

test.after(async () => {
  await host?.close()
})

/** Returns the program's reports from a page, one for each number of threads, and the page's console output. */
async function report(
  folder: 'isolated' | 'plain',
  threads: readonly number[],
): Promise<{ reports: Report[]; said: string[] }> {
  const said: string[] = []
  const page = await host!.open(folder, text => said.push(text))
  const reports: Report[] = []
  for (const count of threads)
    reports.push(
      await page.evaluate(n => (globalThis as unknown as { demask: { run: typeof run } }).demask.run(n), count),
    )
  await page.close()
  return { reports, said }
}

/** The kernels give Node's bytes, and training Node's losses up to differences of the engines' own exp, sin and cos. */
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
