/** Runs beside one another: a page that compares them, and the list of a folder. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { run as compare } from '../../cli/compare.ts'
import { cpu, tensor } from '../../core/index.ts'
import { lockFolder } from '../../io/lock.ts'
import { UsageError, UserError } from '../../io/user-error.ts'
import { inWords } from '../../training/column-words.ts'
import {
  type AnyProgram,
  listRuns,
  MetricsLog,
  newSettings,
  programs,
  saveCheckpoint,
  writeComparison,
  writeGrid,
  writeReport,
  writeRunReadme,
} from '../../training/index-node.ts'
import { inFolder } from '../programs/example.ts'

interface Made {
  readonly steps: number
  readonly of: number
  readonly lr: number
  readonly heldOut?: boolean
}

/** A run of `steps` steps of `of`, whose loss is scale / step. */
async function make(folder: string, { steps, of, lr, heldOut = false }: Made): Promise<void> {
  const settings = { preset: 'tiny', lr, batch: 4 }
  const described = { program: 'train mdt', settings }
  writeRunReadme(folder, { title: `MDT at ${lr}`, command: 'go', resume: 'go on', steps: of, described })
  const log = new MetricsLog(folder, 0)
  for (let step = 1; step <= steps; step++)
    log.write(
      { step, loss: 1 / (lr * step), lr, ...(heldOut && step % 2 === 0 && { heldOut: 2 / step }) },
      { step, seconds: 2, time: 1_700_000_000 + step },
    )
  log.close()
  if (steps === 0) return
  const part = new Map([['w', tensor([1, 2], { backend: cpu })]])
  await saveCheckpoint(folder, { model: part, ema: part, optimizer: part }, { step: steps, settings })
  await writeGrid(join(folder, `samples-${String(steps).padStart(8, '0')}.png`), new Float32Array(48), [1, 3, 4, 4])
}

test('a comparison has losses, the settings that differ, curves over one another and the last grids, in one file', () =>
  inFolder(async folder => {
    const runs = ['slow', '<fast>'].map(name => join(folder, name))
    await make(runs[0], { steps: 8, of: 8, lr: 0.5, heldOut: true })
    await make(runs[1], { steps: 6, of: 8, lr: 0.25 })
    const out = join(folder, 'compare.html')
    await writeComparison(out, runs)
    const html = readFileSync(out, 'utf8')
    assert.match(html, '<h1>slow, &lt;fast&gt;</h1>')
    const mean = Array.from({ length: 8 }, (_, i) => 2 / (i + 1)).reduce((a, b) => a + b) / 8
    const facts = ['slow', 'MDT at 0.5', '8', String(Number(mean.toPrecision(3))), '0.25', '16s']
    assert.match(html, `<tr>${facts.map(fact => `<td>${fact}</td>`).join('')}</tr>`)
    assert.match(html, '<tr><td>lr</td><td>0.5</td><td>0.25</td></tr>')
    assert.not.match(html, '<td>preset</td>')
    const [loss, heldOut] = html.split('<figure class="wide">').slice(1)
    assert.match(loss, '<figcaption>training loss</figcaption>')
    for (const name of ['slow', '&lt;fast&gt;']) assert.match(loss, `>${name}</text>`)
    assert.is(loss.match(/<polyline/g)?.length, 4, 'two raw curves, two means')
    assert.match(heldOut, '<figcaption>held-out loss</figcaption>')
    assert.is(heldOut.match(/<polyline/g)?.length, 2, 'one run has measured it')
    assert.is(html.match(/src="data:image\/png;base64,/g)?.length, 2)
    assert.not.match(html, /<script|<link|@import|url\(|src="(?!data:)/)
  }))

test('a comparison needs two folders of runs', () =>
  inFolder(async folder => {
    await make(join(folder, 'run'), { steps: 2, of: 2, lr: 1 })
    for (const [folders, wanted] of [
      [[join(folder, 'run')], /^compare: expected two runs or more, got 1$/],
      [[join(folder, 'run'), folder], /: expected the folder of a run, with a metrics\.jsonl, got none$/],
    ] as const) {
      const error = await writeComparison(join(folder, 'a.html'), folders).catch((error: Error) => error)
      assert.instance(error, UserError)
      assert.match((error as Error).message, wanted)
    }
    assert.not(existsSync(join(folder, 'a.html')))
    for (const [words, wanted] of [
      [[join(folder, 'run')], /^runs: expected two or more, got 1$/],
      [[join(folder, 'run'), folder, '--out', 'a.png'], /^--out: expected a file that ends with \.html, got 'a\.png'$/],
    ] as const) {
      const error = await compare(words).catch((error: Error) => error)
      assert.instance(error, UsageError)
      assert.match((error as Error).message, wanted)
    }
  }))

test('a list of runs has state, steps, losses and size', () =>
  inFolder(async folder => {
    await make(join(folder, 'done'), { steps: 4, of: 4, lr: 0.5, heldOut: true })
    await make(join(folder, 'half'), { steps: 2, of: 4, lr: 1 })
    await make(join(folder, 'new'), { steps: 0, of: 4, lr: 1 })
    await make(join(folder, 'now'), { steps: 1, of: 4, lr: 1 })
    await make(join(folder, 'odd'), { steps: 2, of: 4, lr: 1 })
    writeFileSync(join(folder, 'odd', 'metrics.jsonl'), 'no row\n{"step":2}\n')
    mkdirSync(join(folder, 'other'))
    const release = lockFolder(join(folder, 'now'))
    const runs = listRuns(folder)
    release()
    assert.equal(
      runs.map(({ name, state, step, steps }) => [name, state, step, steps]),
      [
        ['done', 'finished', 4, 4],
        ['half', 'stopped', 2, 4],
        ['new', 'not begun', 0, 4],
        ['now', 'running', 1, 4],
        ['odd', 'damaged', 0, undefined],
      ],
    )
    assert.is(runs[0].loss, (2 + 1 + 2 / 3 + 0.5) / 4)
    assert.equal([runs[0].heldOut, runs[1].heldOut, runs[0].time], [0.5, undefined, 1_700_000_004])
    assert.ok(runs.every(({ bytes }) => bytes > 1000))
    assert.is(listRuns(folder)[3].state, 'stopped')
    assert.throws(() => listRuns(join(folder, 'nowhere')), /nowhere: expected a folder of runs: no such folder$/)
  }))

test('the report labels losses in words, and has the held-out loss beside the training loss', () =>
  inFolder(async folder => {
    await make(folder, { steps: 8, of: 8, lr: 0.5, heldOut: true })
    const html = readFileSync(await writeReport(folder), 'utf8')
    const [, chart] = html.split('<figure class="wide">')
    assert.match(chart, /^<figcaption>training loss <b>[\d.]+<\/b>, held-out loss <b>[\d.]+<\/b>; faint: each value/)
    const svg = chart.slice(0, chart.indexOf('</svg>'))
    assert.is(svg.match(/<polyline[^>]*stroke-opacity="0.3"/g)?.length, 2, 'the values of each')
    assert.is(svg.match(/<polyline[^>]*stroke-opacity="1"/g)?.length, 2, 'the mean of each')
    assert.equal(
      [...svg.matchAll(/>([a-z -]+ loss)<\/text>/g)].map(([, name]) => name),
      ['training loss', 'held-out loss'],
    )
    assert.match(html, '<figcaption>learning rate ')
  }))

test('every column of every program has words', () => {
  for (const [name, program] of Object.entries<AnyProgram>(programs)) {
    const { training } = program.family
    const terms = Object.fromEntries(training.terms.map(term => [term, 1]))
    const columns = training.columns(terms, newSettings(program.family), 0)
    for (const column of Object.keys(columns)) assert.is.not(inWords(column), column, `${name}: ${column}`)
  }
})

test.run()
