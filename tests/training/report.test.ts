/** The page of a run: what is on it, that it needs nothing but the folder, and what it says where something is missing. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, tensor } from '../../core/index.ts'
import { UserError } from '../../io/user-error.ts'
import {
  MetricsLog,
  saveCheckpoint,
  version,
  writeGrid,
  writeReport,
  writeRunReadme,
} from '../../training/index-node.ts'
import { isSaved } from '../../training/resume.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-report-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

/** A run of 30 steps, with a checkpoint and pictures after every third one. */
async function made(): Promise<string> {
  const run = join(root, 'run')
  const title = 'MDT-tiny on <cats> & "dogs"'
  writeRunReadme(run, {
    title,
    command: 'npx demask train mdt',
    resume: 'npx demask train mdt --resume',
    steps: 30,
    described: {},
  })
  const log = new MetricsLog(run, 0)
  for (let step = 1; step <= 30; step++) {
    const loss = step === 7 ? Number.NaN : 1 / step
    log.write({ step, loss, lr: 1e-3 }, { step, seconds: 0.5, time: 1_700_000_000 + step })
    if (step % 2 === 0)
      await writeGrid(join(run, `samples-${String(step).padStart(8, '0')}.png`), new Float32Array(48), [1, 3, 4, 4])
  }
  log.close()
  await writeGrid(join(run, 'samples-00000040.png'), new Float32Array(48), [1, 3, 4, 4]) // of steps that are gone
  const part = new Map([['w', tensor([1, 2], { backend: cpu })]])
  const state = { step: 30, backend: 'cpu', settings: { preset: 'tiny', batch: 16 }, model: { depth: 6 } }
  await saveCheckpoint(run, { model: part, ema: part, optimizer: part }, state)
  return run
}

test('a run is a page with pictures, curves, settings, versions, checkpoints and how to go on', async () => {
  const run = await made()
  const html = readFileSync(await writeReport(run), 'utf8')
  assert.match(html, '<h1>MDT-tiny on &lt;cats&gt; &amp; &quot;dogs&quot;</h1>')
  // Means of the last 20 steps: of the loss, and of 16 pictures in half a second.
  const loss = Array.from({ length: 20 }, (_, i) => 1 / (30 - i)).reduce((a, b) => a + b) / 20
  assert.match(
    html,
    `step 30 · loss ${Number(loss.toPrecision(3))} · 15s in steps · 0.5 s a step · 32 img/s · last step`,
  )
  const charts = [...html.matchAll(/<figcaption>([^<]+) <b>([^<]+)<\/b>[^<]*<\/figcaption><svg/g)].map(
    match => match[1],
  )
  assert.equal(charts, ['training loss', 'learning rate', 'seconds a step'])
  const pictures = [...html.matchAll(/<img src="([^"]+)"/g)].map(match => match[1])
  assert.is(pictures.length, 13)
  assert.equal([pictures[0], pictures.at(-1)], ['samples-00000030.png', 'samples-00000002.png'])
  assert.ok(!html.includes('samples-00000040'))
  for (const part of [
    'checkpoint-00000030/',
    'npx demask train mdt --resume',
    '<td>tiny</td>',
    '<th>depth</th><td>6</td>',
  ])
    assert.match(html, part)
  assert.match(html, `<th>Node</th><td>${process.versions.node}</td>`)
})

test('the page asks for nothing from a network, and runs nothing', async () => {
  const html = readFileSync(join(root, 'run', 'report.html'), 'utf8')
  assert.not.match(html, /<script|<link|@import|url\(/)
  const addresses = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(match => match[1])
  assert.ok(addresses.length > 20 && addresses.every(address => /^samples-\d+\.png$/.test(address)))
})

test('a run that has just begun, and one of an earlier version, have a page; another folder has none', async () => {
  const begun = join(root, 'begun')
  new MetricsLog(begun, 0).close()
  assert.match(readFileSync(await writeReport(begun), 'utf8'), 'no step yet')
  writeFileSync(join(begun, 'metrics.jsonl'), '{"step":1,"loss":2}\n{"step":2,"loss":1}\n')
  const html = readFileSync(await writeReport(begun), 'utf8')
  assert.match(html, '<h1>begun</h1>')
  assert.match(html, 'step 2 · loss 1.5')
  const empty = join(root, 'empty')
  mkdirSync(empty)
  for (const folder of [empty, join(root, 'nowhere')])
    await writeReport(folder).then(
      () => assert.unreachable('accepted'),
      error => {
        assert.instance(error, UserError)
        assert.match(error.message, /expected the folder of a run, with a metrics\.jsonl, got none$/)
      },
    )
})

test('the version is that of the package', () => {
  const { version: wanted } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  assert.match(wanted, /^\d+\.\d+\.\d+/)
  assert.is(version(), wanted)
})

test('a step is kept once its pictures are on the page', async () => {
  const run = join(root, 'cut-off')
  new MetricsLog(run, 0).close()
  assert.not(isSaved(run, 2), 'nothing is there')
  await writeReport(run)
  utimesSync(join(run, 'report.html'), 100, 100)
  assert.not(isSaved(run, 2), 'a page of before')
  await writeGrid(join(run, 'samples-00000002.png'), new Float32Array(48), [1, 3, 4, 4])
  assert.not(isSaved(run, 2), 'ended between the pictures and the page')
  await writeReport(run)
  assert.ok(isSaved(run, 2))
  assert.not(isSaved(run, 3), 'another step')
})

test.run()
