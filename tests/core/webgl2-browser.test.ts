/**
 * gpu.js on WebGL 2, which only a browser has: the walk over all ops (registry-walk.ts) and training, in headless Chromium
 * with its software driver. Skipped where there is no Chromium. Needs Node.
 */

import type { Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { registry } from '../../core/index.ts'
import { type BrowserHost, executable, openBrowser, webGl2Flags } from './browser-host.ts'
import type * as training from './browser-page.ts'
import type * as walking from './webgl2-page.ts'

const inBrowser = executable === undefined ? test.skip : test
const hosts: BrowserHost[] = []
let page: Page

async function openPage(program: string): Promise<Page> {
  const host = await openBrowser(webGl2Flags, { program })
  hosts.push(host)
  return host.open('isolated', () => {})
}

test.before(async () => {
  if (executable === undefined) return
  page = await openPage('webgl2-page.ts')
  const about = await page.evaluate(() => (globalThis as unknown as { demask: typeof walking }).demask.open())
  assert.is(about, 'gpu: gpu.js on webgl2')
})

test.after(async () => {
  for (const host of hosts) await host.close()
})

for (const name of registry().keys())
  inBrowser(`${name} on WebGL 2`, () =>
    page.evaluate(op => (globalThis as unknown as { demask: typeof walking }).demask.walkOn(op), name),
  )

inBrowser('arrays of all sizes come back, small ones after large ones too', async () => {
  const sizes = [5, 16_384, 16_385, 70_000, 1_000, 1_100_000, 3]
  const equal = await page.evaluate(
    list => (globalThis as unknown as { demask: typeof walking }).demask.readBack(list),
    sizes,
  )
  assert.equal(
    equal,
    sizes.map(() => true),
  )
})

inBrowser('arrays of no elements are as on cpu', () =>
  page.evaluate(() => (globalThis as unknown as { demask: typeof walking }).demask.walkOnEmpty()),
)

inBrowser('infinite and small values, and sines of large angles', () =>
  page.evaluate(() => (globalThis as unknown as { demask: typeof walking }).demask.scalarValuesOn()),
)

// Smaller than MDT-tiny: with a software driver a step of that takes most of a minute.
inBrowser('an MDT trains on WebGL 2 as on wasm', async () => {
  const other = await openPage('browser-page.ts')
  const small = { hiddenSize: 32, depth: 4 }
  const wasm = await other.evaluate(
    changed => (globalThis as unknown as { demask: typeof training }).demask.run(1, changed),
    small,
  )
  const gpu = await other.evaluate(
    changed => (globalThis as unknown as { demask: typeof training }).demask.runOnGpu('webgl2', changed),
    small,
  )
  assert.is(gpu.losses.length, wasm.losses.length)
  gpu.losses.forEach((loss, i) => {
    assert.ok(Math.abs(loss / wasm.losses[i] - 1) < 1e-3, `loss ${i}: ${loss}, on wasm ${wasm.losses[i]}`)
    if (i > 0) assert.ok(loss < gpu.losses[i - 1], `losses fall: ${gpu.losses.join(' ')}`)
  })
})

// The last on this page, whose other backend might be on the same context.
inBrowser('a lost context is told by the next read', async () => {
  const [before, ...after] = await page.evaluate(() =>
    (globalThis as unknown as { demask: typeof walking }).demask.lose(),
  )
  assert.is(before, '2,4,6')
  for (const message of after) assert.match(message, /^gpu: the device webgl2 was lost \(.*\); its tensors are gone: /)
})

test.run()
