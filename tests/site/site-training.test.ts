/**
 * Training in a page of the site, in headless Chromium: on one thread, on shared memory and on WebGPU, left and found again,
 * after errors, and a download that is resumed in Node. The longest run has one thread, since threads that wait for each other
 * are slow beside other programs. Skipped as site.test.ts is. Needs Node.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ready } from '../../core/index.ts'
import { openEmoji } from '../../data/emoji.ts'
import { run } from '../programs/example.ts'
import { browser, onSite, open, plain, says, visit } from './site-browser.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-site-'))
test.after(() => rmSync(folder, { recursive: true, force: true }))

/** A device of software takes seconds for each picture of a step. */
const fewOnGpu = 1

/** Trains in an open page for `steps` steps. Returns the loss of each step that was seen. */
async function train(page: Page, steps: number, batch: number): Promise<Map<number, number>> {
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
  await page.waitForSelector('[data-test=start]', { timeout: 120_000 }) // after the step that it is in
  return losses
}

onSite('on one thread, as the page says: the loss falls, and the run goes on in Node', async () => {
  const { page } = await open('playground/train.html', plain)
  await page.waitForSelector('[data-test=start]')
  assert.match((await page.textContent('[data-test=status]'))!, /1 thread\. One thread: the server of this page/)
  const losses = [...(await train(page, 44, 4)).values()]
  assert.ok(losses.at(-1)! < 0.75 * losses[0], `losses: ${losses}`)
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-test=export]')])
  const zip = join(folder, 'run.zip')
  await download.saveAs(zip)
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

onSite('on shared memory: the run is found again; full memory and a wrong batch say so', async () => {
  const { page, said } = await open('playground/train.html')
  await train(page, 2, 2)
  await leaveAndResume(page, 'wasm')
  assert.equal(said, [])
  await page.click('[data-test=pause]')
  await page.click('[data-test=reset]:not(:disabled)', { timeout: 120_000 })
  for (const [batch, error] of [
    ['0', "batch: expected a whole number from 1, got '0'"],
    ['10000', 'wasm: out of memory: expected'],
  ]) {
    await page.fill('[data-test=batch]', batch)
    await page.click('[data-test=start]')
    assert.ok((await says(page, 'error', error)).startsWith(error))
  }
  assert.ok([...(await train(page, 2, 2)).values()].every(Number.isFinite))
  await page.close()
})

/** Leaves a paused run for another page, finds it again, and trains it for one more step. */
async function leaveAndResume(page: Page, machine: string): Promise<void> {
  const shown = () => page.getAttribute('[data-test=progress]', 'data-step').then(Number)
  const paused = await shown()
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
}

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

onSite('training on WebGPU: the losses of Node, the run is found again, and a lost device says so', async () => {
  const { page, said } = await open('playground/train.html')
  await page.selectOption('[data-test=backend]', 'gpu')
  await says(page, 'status', 'gpu (webgpu)')
  const onGpu = await train(page, 2, fewOnGpu)
  const onWasm = await lossesInNode(Math.max(...onGpu.keys()), fewOnGpu)
  assert.ok(onGpu.size > 0)
  for (const [step, loss] of onGpu)
    assert.ok(Math.abs(loss / onWasm[step - 1] - 1) < 1e-3, `step ${step}: ${loss}, in Node ${onWasm[step - 1]}`)
  await leaveAndResume(page, 'gpu')
  assert.equal(
    said.filter(line => !/^gpu: /.test(line)),
    [],
  )
  await (await browser.newBrowserCDPSession()).send('Browser.crashGpuProcess')
  assert.match(await says(page, 'error', 'lost'), /^gpu: the device .* was lost .*Train begins anew\)$/)
  await says(page, 'status', 'wasm (')
  assert.ok([...(await train(page, 2, 2)).values()].every(Number.isFinite))
  await page.close()
})

/** Losses of the full pass of the page's first steps, computed in this process. */
async function lossesInNode(steps: number, batch: number): Promise<number[]> {
  const { Trainer } = await import('../../site/playground/trainer.ts')
  const backend = await ready({ backend: 'wasm' })
  const trainer = new Trainer(await openEmoji('smileys', 16), { batch })
  const losses: number[] = []
  for (let step = 0; step < steps; step++) losses.push((await trainer.next()).full)
  trainer.dispose()
  backend.dispose()
  return losses
}

test.run()
