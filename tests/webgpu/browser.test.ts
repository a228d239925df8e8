/**
 * demask in a browser on WebGPU: MDT tiny on one batch, in headless Chromium with its software adapter, on a page that
 * trains on wasm with threads too: the losses fall, and are the same. Skipped where there is no Chromium. Needs Node.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { executable, openBrowser, webGpuFlags } from '../core/browser-host.ts'
import type { run, runOnGpu } from '../core/browser-page.ts'

interface Program {
  readonly demask: { readonly run: typeof run; readonly runOnGpu: typeof runOnGpu }
}

const inBrowser = executable === undefined ? test.skip : test
if (executable === undefined) console.log('SKIPPED: there is no Chromium')

inBrowser('a page trains MDT tiny on two threads of wasm and on WebGPU, with the same falling losses', async () => {
  const host = await openBrowser(webGpuFlags)
  try {
    const said: string[] = []
    const page = await host.open('isolated', text => said.push(text))
    const wasm = await page.evaluate(() => (globalThis as unknown as Program).demask.run(2))
    const gpu = await page.evaluate(() => (globalThis as unknown as Program).demask.runOnGpu('webgpu'))
    assert.equal(said, [gpu.about])
    assert.match(gpu.about, /^gpu: webgpu on /)
    assert.is(wasm.threads, 2)
    assert.is(gpu.losses.length, wasm.losses.length)
    gpu.losses.forEach((loss, i) => {
      assert.ok(Math.abs(loss / wasm.losses[i] - 1) < 1e-3, `loss ${i}: ${loss}, on wasm ${wasm.losses[i]}`)
      if (i > 0) assert.ok(loss < gpu.losses[i - 1], `losses fall: ${gpu.losses.join(' ')}`)
    })
  } finally {
    await host.close()
  }
})

test.run()
