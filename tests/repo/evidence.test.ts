/** The evidence: experiments, records, and pages that agree with the records. Needs Node. */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { costOf, multiplyAddsOf, readSeconds, settingOf } from '../../bench/evidence/costs.ts'
import { blurred, damaged, damageKinds, halved, noised, shifted, specked } from '../../bench/evidence/damage.ts'
import { experiments, fewSmileys, samples, saveEvery } from '../../bench/evidence/experiments.ts'
import { endTableOf } from '../../bench/evidence/figures.ts'
import { evidenceFiles, pagesFolder } from '../../bench/evidence/pages.ts'
import { commandOf, withData } from '../../bench/evidence/pieces.ts'
import { type RunRecord, readRecord, recordsOf } from '../../bench/evidence/records.ts'
import { root } from '../../bench/evidence/trees.ts'
import { axes, featuresHash, readYardstick } from '../../bench/evidence/yardstick.ts'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { rng } from '../../core/index.ts'
import { openDataset } from '../../data/index.ts'
import { type AnyProgram, programs } from '../../training/programs.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

test('every run has a name of its own, points that rise, and flags that its program takes', () => {
  for (const [name, { runs }] of Object.entries(experiments)) {
    assert.is(new Set(runs.map(run => run.name)).size, runs.length, name)
    for (const run of runs) {
      assert.equal(
        run.points,
        [...run.points].sort((a, b) => a - b),
      )
      // The held-out loss is known where a checkpoint is saved.
      for (const point of run.points) assert.is(point % saveEvery, 0, `${name} ${run.name} ${point}`)
      const from = run.from === undefined ? undefined : 'runs/other'
      if (run.from !== undefined)
        assert.ok(
          runs.some(other => other.name === run.from),
          `${name} ${run.name}`,
        )
      const [, family, ...words] = commandOf(run, from)
      const program: AnyProgram = programs[family as keyof typeof programs]
      const { given } = readTrainingCommand(program, `demask train ${family}`, words)
      const { seed, size, data } = given as { seed?: number; size?: number; data?: string }
      assert.equal([seed, size, data], [run.seed, run.size, run.data])
    }
  }
})

test('records are of runs of their experiment, with its flags, and at its points', () => {
  for (const [name, { runs }] of Object.entries(experiments))
    for (const { head, points } of recordsOf(name)) {
      const run = runs.find(run => run.name === head.name)
      assert.ok(run !== undefined, `${name} ${head.name}`)
      assert.equal(head.command, commandOf(run, run.from))
      let previous = 0
      for (const [k, { step, losses, heldOut, samples: count, end }] of points.entries()) {
        assert.is(step, run.points[k], head.name)
        assert.is(count, samples.curve.count)
        assert.is(end?.samples, run.end && k === run.points.length - 1 ? samples.end.count : undefined)
        assert.equal([losses.at(-1)![0], losses.at(-1)![2]], [step, heldOut])
        assert.is(losses.length, (step - previous) / saveEvery)
        previous = step
      }
      assert.match(head.commit, /^[0-9a-f]{40}$/)
    }
})

test('records, figures and grids take at most 3 MB', () => {
  const sizes = readdirSync(pagesFolder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => statSync(join(entry.parentPath, entry.name)).size)
  const total = sizes.reduce((sum, size) => sum + size, 0)
  assert.ok(total < 3e6, `${total} bytes`)
})

test('pages and figures are those of the records', () => {
  for (const [path, content] of evidenceFiles())
    assert.is(
      readFileSync(join(pagesFolder, path), 'utf8'),
      content,
      `npx tsx bench/evidence/pages.ts writes ${path} anew`,
    )
})

test('the table of ends has a row for each setting that was measured to its end', () => {
  const ends = (name: string, distances: readonly number[], guided?: number) =>
    distances.map((distance, seed): RunRecord => {
      const measured = { samples: 2000, distance, precision: 0.5, recall: 0.25 }
      const point = { step: 1000, heldOut: 0.1, ...measured, end: measured, losses: [] }
      const more = guided === undefined ? {} : { guided: { ...measured, scale: 1.5, distance: guided } }
      const head = {
        experiment: 'maskdit',
        name: `${name}-${seed}`,
        family: 'maskdit',
        seed,
        reference: 'emoji',
      } as const
      return { head: { ...head, command: [], commit: '', processor: '' }, points: [{ ...point, ...more }] }
    })
  const [unfinished] = ends('full', [1]).map(({ head, points }) => ({
    head,
    points: [{ ...points[0], end: undefined }],
  }))
  const table = endTableOf([unfinished, ...ends('half', [2, 4], 3), ...ends('quarter', [5])])
  assert.equal(table?.split('\n').slice(2), [
    '| half | 2 | 1,000 | 3.00 (2.00 to 4.00) | 0.50 (0.50 to 0.50) | 0.25 (0.25 to 0.25) | 3.00 (3.00 to 3.00) |',
    '| quarter | 1 | 1,000 | 5.00 | 0.50 | 0.25 |  |',
  ])
  assert.is(endTableOf([unfinished]), null)
})

test('costs follow masks, passes and tuning', () => {
  const workOf = (experiment: string, name: string) => {
    const run = experiments[experiment].runs.find(each => each.name === name)!
    return multiplyAddsOf(commandOf(run, run.from))
  }
  // A DiT's step by hand: 64 tokens, 6 blocks of width 128, 64 pictures, forward and twice that backward.
  const [D, T] = [128, 64]
  const block = 12 * T * D ** 2 + 2 * T ** 2 * D + 6 * D ** 2
  const forward = T * 12 * D + 256 * D + D ** 2 + 6 * block + 2 * D ** 2 + T * D * 24
  assert.is(workOf('mdt', 'dit-0'), 3 * 64 * forward)
  assert.is(workOf('mdt', 'full-0'), workOf('mdt', 'dit-0'))
  const ratio = (experiment: string, a: string, b: string) => workOf(experiment, a) / workOf(experiment, b)
  assert.ok(Math.abs(ratio('mdt', 'mdt-0', 'dit-0') - 1.9) < 0.1, String(ratio('mdt', 'mdt-0', 'dit-0')))
  assert.ok(Math.abs(ratio('maskdit', 'half-0', 'full-0') - 0.61) < 0.01)
  assert.is(workOf('maskdit', 'tuned-zero-0'), workOf('maskdit', 'full-0'))
  assert.ok(ratio('maskdm', 'pretrain90-0', 'finetune90-0') < 0.2)
})

test('a run costs what it and the run that it starts from cost', () => {
  const stepsOf = (experiment: string, name: string, step: number) => {
    const run = experiments[experiment].runs.find(each => each.name === name)!
    const head = { experiment, ...run, command: commandOf(run, run.from), commit: '', processor: '' }
    return costOf(head, step, () => 1)
  }
  assert.is(stepsOf('maskdm', 'scratch-0', 500), 500)
  assert.is(stepsOf('maskdm', 'finetune90-0', 100), 4800)
  assert.is(stepsOf('maskdit', 'tuned-zero-0', 500), 5200)
})

test('seconds of a step are those of settings of the experiments, each once', () => {
  const settings = new Set(
    Object.values(experiments).flatMap(({ runs }) => runs.map(run => settingOf(commandOf(run, run.from)))),
  )
  const rows = readSeconds()
  assert.is(new Set(rows.map(({ setting }) => setting)).size, rows.length)
  for (const { setting, seconds, commit } of rows) {
    assert.ok(settings.has(setting), setting)
    assert.ok(seconds > 0.01 && seconds < 100, `${seconds} s`)
    assert.match(commit, /^[0-9a-f]{40}$/)
  }
  const [first, second] = [0, 1].map(
    seed => experiments['maskdm-transfer'].runs.find(run => run.name === `transfer-40-${seed}`)!,
  )
  assert.is(settingOf(commandOf(first, first.from)), settingOf(commandOf(second, second.from)))
})

test('the distance rises with every fault, with the features that demask has', () => {
  const { head, points } = readYardstick()!
  assert.is(head.features, featuresHash(), 'npx tsx bench/evidence/yardstick.ts measures anew')
  for (const [kind, { strengths }] of Object.entries(axes)) {
    const some = points.filter(point => point.kind === kind)
    assert.equal(
      some.map(({ strength }) => strength),
      strengths,
    )
    for (const [i, { distance }] of some.entries())
      assert.ok(i === 0 || distance > some[i - 1].distance, `${kind} ${strengths[i]}: ${distance}`)
  }
  const floor = (count: number) => points.filter(({ kind, samples: n }) => kind === 'real' && n === count)
  const distances = [samples.curve.count, samples.end.count].map(count => floor(count).map(({ distance }) => distance))
  assert.ok(distances.every(some => some.length === 10) && Math.max(...distances[1]) < Math.min(...distances[0]))
})

test('damage has the strength that it says', () => {
  const size = 16
  const flat = new Float32Array(3 * size ** 2).fill(0.25)
  const random = rng(1)
  const noise = noised(flat, 0.1, random).map(value => value - 0.25)
  const deviation = Math.sqrt(noise.reduce((sum, value) => sum + value ** 2, 0) / noise.length)
  assert.ok(Math.abs(deviation - 0.1) < 0.01, String(deviation))
  const changed = specked(flat, 0.2, random).filter(value => value !== 0.25).length / flat.length
  assert.ok(Math.abs(changed - 0.2) < 0.08, String(changed))
  assert.equal(blurred(flat, 1), flat)
  const spot = new Float32Array(3 * size ** 2)
  spot[8 * size + 8] = 1
  const soft = blurred(spot, 0.5)
  assert.is(soft[8 * size + 8], 0.5 + 0.5 * (6 / 16) ** 2)
  assert.is(soft[8 * size + 10], (0.5 * 6) / 16 ** 2)
  const moved = shifted(spot, 2, -1)
  assert.equal([moved[7 * size + 10], moved[8 * size + 8], moved[3 * size], moved[15 * size + 8]], [1, 0, 1, 1])
  assert.equal(halved(Float32Array.of(1, 2, 3, 6, 0, 0, 0, 4, 8, 8, 8, 8)), Float32Array.of(3, 1, 8))
  const { planes, strengths } = damaged(flat, rng(3))
  assert.equal([planes.length, strengths.length], [flat.length, damageKinds.length])
})

test('a trial trains, measures and records every run of an experiment', () => {
  const words = ['--import', 'tsx', 'bench/evidence/index.ts', 'quick', '--trial', '--out', join(folder, 'runs')]
  const { status, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: 'utf8' })
  assert.is(status, 0, stderr)
  for (const { name } of experiments.quick.runs) {
    const { head, points } = readRecord(join(folder, 'runs/records'), 'quick', name)!
    assert.equal([head.name, points.map(({ step }) => step)], [name, [2]])
    for (const { losses, distance, samples: count } of points) {
      assert.is(losses.length, 1)
      assert.ok(distance > 0 && losses[0].every(Number.isFinite))
      assert.is(count, 8)
    }
    assert.ok(existsSync(join(folder, 'runs/records/samples', `quick-${name}.png`)))
  }
})

test('a few smileys are a file of pictures', async () => {
  const run = experiments['maskdm-transfer'].runs.find(({ data }) => data === fewSmileys.data)!
  const { data } = await withData(run, folder)
  const [few, all] = await Promise.all([openDataset(data, 16), openDataset('emoji:smileys', 16)])
  assert.is(few.length, fewSmileys.count)
  const n = 7
  const [copy, original] = await Promise.all([few.pixels(n), all.pixels(Math.floor((n * all.length) / few.length))])
  assert.ok(Buffer.compare(copy, original) === 0)
})

test.run()
