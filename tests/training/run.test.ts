/** The run around a loop: rows and checkpoints, one commit a step, and errors that name the last good checkpoint. */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, mean, type Rng, ready, reshape, rng, scope, square } from '../../core/index.ts'
import type { Batch } from '../../data/index.ts'
import { UserError } from '../../io/user-error.ts'
import { AdamW, constantDecay, Ema, Linear } from '../../nn/index.ts'
import { latestCheckpoint, Run, type RunOptions, readState, writeGrid } from '../../training/index-node.ts'
import { inFolder } from '../programs/example.ts'
import { quietly } from './printed.ts'

const backend = await ready({ backend: 'wasm', threads: 1 })
const [N, size] = [4, 2]

/** Batches of noise. */
const batches = {
  waited: 0,
  shareOf: () => 'data',
  async at(step: number): Promise<Batch> {
    const images = rng(step).normalArray(N * 3 * size * size)
    return { images, labels: new Int32Array(N), indices: new Int32Array(N) }
  },
}

const described = { program: 'test', settings: { batch: N } }

function start(folder: string, change: Partial<RunOptions> = {}, parts = 1) {
  const random: Rng = rng(7)
  const model = new Linear(3 * size * size, 2, { rng: random.fork('weights') })
  const ema = new Ema(model, new Linear(3 * size * size, 2, { rng: null }), { decay: constantDecay(0.9) })
  const optimizer = new AdamW(model.namedParameters(), { lr: 0.01 })
  const from = latestCheckpoint(folder)
  const run = new Run(
    {
      folder,
      steps: 3,
      settings: { batch: N, parts, maxNorm: null, skipNonfinite: 0 },
      rng: random,
      backend,
      data: { channels: 3, size },
      labelled: false,
      from,
      previous: undefined,
      described,
      readme: { title: 'a line', command: 'go', resume: 'go on' },
      columns: ({ loss }) => ({ loss, double: 2 * loss }),
      curves: ['loss'],
      show: async () => {},
      ...change,
    },
    { model, ema, optimizer },
  )
  const commit = (step: number) =>
    run.commit(
      step,
      batches,
      ({ images, report }) => {
        const x = scope(() => reshape(images, [images.shape[0], 3 * size * size]))
        const loss = scope(() => mean(square(model.forward(x))))
        backward(loss)
        report({ loss: loss.detach() })
      },
      losses => {
        const update = optimizer.step({ losses })
        ema.update(update.finite)
        optimizer.zeroGrad()
        return update
      },
    )
  return { run, commit }
}

async function complete(folder: string, change: Partial<RunOptions> = {}, parts = 1): Promise<void> {
  const { run, commit } = start(folder, change, parts)
  for await (const step of run.steps()) await commit(step)
}

const rowsOf = (folder: string) =>
  readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map(row => JSON.parse(row))

test('a run yields its steps, logs a row for each, and leaves a checkpoint', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    const said = await quietly(() => complete(out, { notes: ['a note', null] }))
    assert.match(said, /^a line: 0\.0 M parameters, batch 4, wasm \w+; see \S+run\na note\n/)
    assert.match(said, /s a step\n(.*\n)*data\n\S+checkpoint-00000003 after step 3\n$/)
    assert.equal(
      rowsOf(out).map(row => Object.keys(row)),
      new Array(3).fill(['step', 'loss', 'double', 'gradNorm', 'lr']),
    )
    assert.ok(rowsOf(out).every(({ loss, double, lr }) => double === 2 * loss && lr === 0.01))
    assert.equal(readState(latestCheckpoint(out)!.path), {
      step: 3,
      backend: /wasm \w+/.exec(said)![0],
      ...described,
      emaUpdates: 3,
    } as never)
    for (const name of ['README.md', 'run.json', 'report.html', 'loss.png'])
      assert.ok(existsSync(join(out, name)), name)
  }))

test('a resumed run is the unbroken one, with parts, too; a time limit stops before the next step', () =>
  inFolder(async folder => {
    const [whole, halves] = ['whole', 'halves'].map(name => join(folder, name))
    await quietly(async () => {
      await complete(whole, {}, 2)
      await complete(halves, { steps: 2 }, 2)
      await complete(halves, { previous: {} }, 2)
    })
    assert.equal(rowsOf(halves), rowsOf(whole))
    const timed = join(folder, 'timed')
    assert.match(await quietly(() => complete(timed, { minutes: 0 })), /after step 0; go on with: go on\n$/)
  }))

test('each step of the loop needs one commit', () =>
  inFolder(async folder => {
    const forgetful = async () => {
      const { run } = start(join(folder, 'run'))
      for await (const _ of run.steps());
    }
    let message = ''
    await quietly(() =>
      forgetful().catch(error => {
        message = error.message
      }),
    )
    assert.is(message, 'run.steps: expected a commit of step 0, got none')
  }))

test('leaving the loop early saves nothing', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    await quietly(async () => {
      const { run, commit } = start(out)
      for await (const step of run.steps()) {
        await commit(step)
        break
      }
    })
    assert.is(latestCheckpoint(out), undefined)
  }))

/** Asks the run in this process to end, as Ctrl-C does. Restores the exit code that a signal leaves. */
async function interrupted(use: (ask: () => void) => Promise<unknown>): Promise<number | string | null | undefined> {
  const before = process.exitCode
  try {
    await use(() => void process.emit('SIGINT', 'SIGINT'))
    return process.exitCode
  } finally {
    process.exitCode = before
  }
}

test('Ctrl-C ends the run after its step, with the grid of samples and exit code 130', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    const asked: boolean[] = []
    const show = async (path: string, run: Run) => {
      for (let i = 0; i < 3; i++) asked.push(await run.isDrawingOver())
      await writeGrid(path, new Float32Array(3), [1, 3, 1, 1])
    }
    const code = await interrupted(ask =>
      quietly(async () => {
        const { run, commit } = start(out, { show, speed: () => 'fast' })
        for await (const step of run.steps()) {
          await commit(step)
          if (step === 0) ask()
        }
      }),
    )
    assert.is(code, 130)
    assert.equal(asked, [false, false, false])
    assert.is(latestCheckpoint(out)?.step, 1)
    assert.ok(existsSync(join(out, 'samples-00000001.png')))
  }))

test('after Ctrl-C drawing ends within 20 s of the signal, or of its own beginning', () =>
  inFolder(async folder => {
    const now = performance.now
    let later = 0
    performance.now = () => now.call(performance) + 1000 * later
    const over: boolean[] = []
    const steps = async (run: Run, ...seconds: readonly number[]) => {
      for (const each of seconds) {
        later += each
        over.push(await run.isDrawingOver())
      }
    }
    try {
      let said = ''
      await interrupted(async ask => {
        said = await quietly(async () => {
          const save = start(join(folder, 'save'), {
            show: async (_, run) => {
              await steps(run, 30) // no signal yet
              ask()
              await steps(run, 6, 6)
            },
          })
          for await (const step of save.run.steps()) await save.commit(step)
          const stop = start(join(folder, 'stop'), { show: (_, run) => steps(run, 6, 6, 6) }) // a fourth step would end after 24 s
          for await (const step of stop.run.steps()) {
            await stop.commit(step)
            ask()
            later += 60 // the step that was running
          }
        })
      })
      assert.equal(over, [false, false, false, false, false, true])
      assert.is(said.match(/no samples: they would take too long\n/g)?.length, 2)
    } finally {
      performance.now = now
    }
  }))

test('an error after a checkpoint names the checkpoint that is whole', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    const full = async (path: string) => {
      throw new UserError(`${path}: could not be written: no space left on the disk`)
    }
    let message = ''
    await quietly(() =>
      complete(out, { show: full }).catch(error => {
        message = error.message
      }),
    )
    const [samples, checkpoint] = ['samples-00000003.png', 'checkpoint-00000003'].map(name => join(out, name))
    assert.is(
      message,
      `${samples}: could not be written: no space left on the disk; the last good checkpoint is ${checkpoint}`,
    )
  }))

test.run()
