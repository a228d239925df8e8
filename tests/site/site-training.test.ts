/**
 * Training in a page of the site, in headless Chromium: on WebAssembly and WebGPU, left and found again, after errors, and
 * a download that is resumed in Node. Skipped as site.test.ts is. Needs Node.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run } from '../programs/example.ts'
import { browser, onSite, open, plain, says, visit } from './site-browser.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-site-'))
test.after(() => rmSync(folder, { recursive: true, force: true }))

/** A device of software takes seconds for each picture of a step. */
const fewOnGpu = 2

/** Trains in an open page for `steps` steps. Returns the loss of each step that was seen. */
async function train(page: Page, steps: number, batch = 8): Promise<Map<number, number>> {
  await page.waitForSelector('[data-test=start]')
  await page.fill('[data-test=batch]', `${batch}`)
  await page.click('[data-test=start]')
  const losses = new Map<number, number>()
  for (let step = 0; step < steps; ) {
    await page.waitForFunction(
      last => Number(document.querySelector('[data-test=progress]')?.getAttribute('data-step')) > last,
      step,
      { timeout: 120_000 },
    )
    const [seen, loss] = await page.$eval('[data-test=progress]', p => [
      Number(p.getAttribute('data-step')),
      Number(p.getAttribute('data-loss')),
    ])
    step = seen
    losses.set(seen, loss)
  }
  await page.click('[data-test=pause]')
  await page.waitForSelector('[data-test=start]')
  return losses
}

onSite('training in a page: the loss falls, and the run goes on in Node', async () => {
  const { page, said } = await open('playground/train.html')
  const losses = [...(await train(page, 60)).values()]
  assert.ok(losses.at(-1)! < 0.75 * losses[0], `losses: ${losses}`)
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-test=export]')])
  const zip = join(folder, 'run.zip')
  await download.saveAs(zip)
  assert.equal(said, [])
  await page.close()

  const out = join(folder, 'run')
  unpack(zip, out)
  const before = metrics(out)
  const step = before.length
  const args = ['--preset', 'tiny', '--out', out, '--steps', String(step + 2), '--resume']
  const { code, stderr } = await run('train-mdt-s', args)
  assert.equal([code, stderr], [0, ''])
  const after = metrics(out)
  assert.is(after.length, step + 2)
  assert.ok(after.at(-1)!.full < 0.9, `loss after the resume: ${after.at(-1)!.full}`)
})

onSite('a run that was left is found again, on either machine', async () => {
  for (const [machine, opened] of [
    ['wasm', await open('playground/train.html')],
    ['gpu', await openOnGpu()],
  ] as const) {
    const { page } = opened
    const step = Math.max(...(await train(page, 2, fewOnGpu)).keys())
    const shown = () => page.getAttribute('[data-test=progress]', 'data-step').then(Number)
    const paused = await shown()
    assert.ok(paused >= step)
    await visit(page, 'noise')
    assert.match(await says(page, 'status', 'Computed'), new RegExp(`: ${machine} `))
    await visit(page, 'train')
    await page.waitForSelector('[data-test=start]')
    assert.is(await page.textContent('[data-test=start]'), 'Resume')
    assert.is(await page.isVisible('[data-test=batch]'), false)
    assert.is(await page.isDisabled('[data-test=export]'), false)
    assert.is(await shown(), paused)
    await page.click('[data-test=start]')
    await page.waitForFunction(
      last => Number(document.querySelector('[data-test=progress]')?.getAttribute('data-step')) > last,
      paused,
      { timeout: 120_000 },
    )
    await page.close()
  }
})

function metrics(out: string): { readonly step: number; readonly full: number }[] {
  return readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
}

/** A ZIP of stored files, as the page writes it. */
function unpack(zip: string, out: string): void {
  const bytes = readFileSync(zip)
  for (let at = 0; bytes.readUInt32LE(at) === 0x04034b50; ) {
    const [size, nameLength, extra] = [
      bytes.readUInt32LE(at + 18),
      bytes.readUInt16LE(at + 26),
      bytes.readUInt16LE(at + 28),
    ]
    const name = bytes.toString('utf8', at + 30, at + 30 + nameLength)
    const start = at + 30 + nameLength + extra
    at = start + size
    if (name.endsWith('/')) continue
    const path = join(out, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, bytes.subarray(start, at))
  }
}

async function openOnGpu(): ReturnType<typeof open> {
  const opened = await open('playground/train.html')
  await opened.page.selectOption('[data-test=backend]', 'gpu')
  await says(opened.page, 'status', 'gpu (webgpu)')
  return opened
}

onSite('training on WebGPU: the same losses', async () => {
  const { page, said } = await openOnGpu()
  const onGpu = await train(page, 6, fewOnGpu)
  assert.equal(
    said.filter(line => !/^gpu: /.test(line)),
    [],
  )
  await page.close()
  const { page: other } = await open('playground/train.html')
  const onWasm = await train(other, 6, fewOnGpu)
  await other.close()
  const both = [...onGpu.keys()].filter(step => onWasm.has(step))
  assert.ok(both.length > 0, 'some steps were seen on both')
  for (const step of both) assert.ok(Math.abs(onGpu.get(step)! / onWasm.get(step)! - 1) < 1e-3, `step ${step}`)
})

onSite('without shared memory the page says so, and trains on one thread', async () => {
  const { page } = await open('playground/train.html', plain)
  await page.waitForSelector('[data-test=start]')
  assert.match((await page.textContent('[data-test=status]'))!, /1 thread\. One thread: the server of this page/)
  const losses = await train(page, 2)
  assert.ok([...losses.values()].every(loss => Number.isFinite(loss)))
  await page.close()
})

onSite('full memory and a wrong batch say so, and the page trains on', async () => {
  const { page } = await open('playground/train.html')
  await page.waitForSelector('[data-test=start]')
  for (const [batch, error] of [
    ['0', "batch: expected a whole number from 1, got '0'"],
    ['10000', 'wasm: out of memory: expected'],
  ]) {
    await page.fill('[data-test=batch]', batch)
    await page.click('[data-test=start]')
    assert.ok((await says(page, 'error', error)).startsWith(error))
  }
  assert.ok([...(await train(page, 2)).values()].every(Number.isFinite))
  await page.close()
})

onSite('a device that is lost: the page says so, and trains on without it', async () => {
  const { page } = await openOnGpu()
  await page.fill('[data-test=batch]', '1')
  await page.click('[data-test=start]')
  await page.waitForSelector('[data-test=progress]', { timeout: 120_000 })
  await (await browser.newBrowserCDPSession()).send('Browser.crashGpuProcess')
  assert.match(await says(page, 'error', 'lost'), /^gpu: the device .* was lost .*Train begins anew\)$/)
  await says(page, 'status', 'wasm (')
  assert.ok([...(await train(page, 2)).values()].every(Number.isFinite))
  await page.close()
})

test.run()
