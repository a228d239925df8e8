/**
 * `npm run soak`: what a process holds while it trains for 2,000 steps, and while models and backends come and go 1,000
 * times: resident memory, JavaScript's heap, wasm memory, threads, open files, tensors and their bytes, ten times over
 * the run. After the first tenth all but the first two must stay as they are, and resident memory may grow by 32 MB.
 * Each part runs in a process of its own; exit code 1 where one grows. Needs Node; threads and files are counted on
 * Linux.
 */

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { cpu } from '../../core/backends/cpu/backend.ts'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm, type WasmBackend } from '../../core/backends/wasm/index.ts'
import {
  type Backend,
  backward,
  matmul,
  mean,
  ones,
  type Rng,
  ready,
  rng,
  scope,
  stats,
  sum,
} from '../../core/index.ts'
import { gaussianDiffusion, linearBetas } from '../../diffusion/index.ts'
import { MDT, type MDTOptions, mdtPreset, passLoss, sampleMDTInputs } from '../../models/index.ts'
import { AdamW, Ema, warmUpDecay } from '../../nn/index.ts'
import { loadCheckpoint, saveCheckpoint } from '../../training/index-node.ts'

const residentMayGrow = 32 // MB

/** One line of the table. */
interface Reading {
  readonly resident: number
  readonly heap: number
  readonly wasm: number
  readonly threads: number
  readonly files: number
  readonly tensors: number
  readonly bytes: number
}

const megabytes = (bytes: number) => Math.round(bytes / 2 ** 18) / 4
const entries = (path: string) => (existsSync(path) ? readdirSync(path).length : 0)

async function read(backend: Backend | null): Promise<Reading> {
  for (let i = 0; i < 3; i++) {
    await new Promise(resolve => setTimeout(resolve, 50)) // lets workers end
    globalThis.gc!()
  }
  const { tensors, bytes } = backend === null ? { ...stats(cpu) } : stats(backend)
  const memory = backend?.name === 'wasm' ? (backend as WasmBackend).runtime.ints(0, 0).buffer.byteLength : 0
  const { rss, heapUsed } = process.memoryUsage()
  return {
    resident: megabytes(rss),
    heap: megabytes(heapUsed),
    wasm: memory / 65536,
    threads: entries('/proc/self/task'),
    files: entries('/proc/self/fd'),
    tensors,
    bytes,
  }
}

/** Does something `count` times, reads ten times, and says what grew after the first reading. */
async function soak(
  count: number,
  what: string,
  backend: Backend | null,
  once: (i: number) => Promise<void>,
): Promise<void> {
  const began = performance.now()
  const readings = new Map<number, Reading>()
  for (let i = 1; i <= count; i++) {
    await once(i)
    if (i % Math.max(1, Math.floor(count / 10)) === 0) readings.set(i, await read(backend))
  }
  const rows = [...readings].map(([i, { resident, heap, wasm, ...rest }]) => ({
    [what]: i,
    'resident MB': resident,
    'heap MB': heap,
    'wasm pages': wasm,
    ...rest,
  }))
  console.table(rows)
  const [first, last] = [[...readings.values()][0], [...readings.values()].at(-1)!]
  const grown = Object.keys(first).filter(name => {
    const key = name as keyof Reading
    if (key === 'heap') return false
    return key === 'resident' ? last.resident - first.resident > residentMayGrow : last[key] !== first[key]
  })
  const seconds = ((performance.now() - began) / 1000).toFixed(0)
  const change = (last.resident - first.resident).toFixed(1)
  console.log(`${seconds} s; resident ${Number(change) > 0 ? '+' : ''}${change} MB after the first tenth`)
  if (grown.length === 0) return
  process.exitCode = 1
  console.log(`GREW: ${grown.join(', ')}`)
}

/** All that training holds: a model of these options and what moves it. */
class Training {
  readonly model: MDT
  readonly average: MDT
  readonly ema: Ema<MDT>
  readonly optimizer: AdamW
  readonly #random: Rng
  readonly #batch: number
  static readonly diffusion = gaussianDiffusion({ betas: linearBetas(1000) })

  constructor(options: MDTOptions, batch: number) {
    this.#random = rng(0)
    this.#batch = batch
    this.model = new MDT(options, { rng: this.#random.fork('weights') })
    this.average = new MDT(options, { rng: null })
    this.ema = new Ema(this.model, this.average, { decay: warmUpDecay(0.999) })
    this.optimizer = new AdamW(this.model.namedParameters(), { lr: 1e-4 })
  }

  /** The loop of examples/train-mdt-s.ts, on noise. */
  async step(i: number): Promise<void> {
    const { model, optimizer } = this
    const { inputSize: S, inChannels: C } = model.options
    const draw = this.#random.fork(i)
    const norm = scope(() => {
      const x0 = draw.normal([this.#batch, C, S, S])
      const t = draw.integersArray(0, Training.diffusion.steps, this.#batch)
      const { full, masked } = sampleMDTInputs(model, x0, null, draw)
      for (const pass of [full, masked])
        backward(scope(() => mean(passLoss(model, Training.diffusion, x0, t, pass).loss)))
      const { norm, finite } = optimizer.step()
      this.ema.update(finite)
      optimizer.zeroGrad()
      return norm
    })
    if (!Number.isFinite(await norm.item())) throw new Error(`step ${i}: the gradient is not finite`)
    norm.dispose()
  }

  dispose(): void {
    for (const part of [this.model, this.average, this.optimizer]) part.dispose()
  }
}

const pictures = { inputSize: 8, inChannels: 3, numClasses: 0 }
const tiny = mdtPreset('tiny', pictures)
/** For the backend that is for tests: a tenth of tiny's width and fewer blocks. */
const tinier: MDTOptions = { ...tiny, depth: 3, decodeLayer: 1, hiddenSize: 16, numHeads: 2, patchSize: 4 }

/** Trains; a checkpoint is written and read at every hundredth step. */
async function train(name: 'wasm' | 'gpu:cpu', options: MDTOptions, batch: number, steps: number): Promise<void> {
  const backend = await ready({ backend: name, threads: name === 'wasm' ? 2 : undefined })
  const folder = mkdtempSync(join(tmpdir(), 'demask-soak-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const run = new Training(options, batch)
  await soak(steps, 'step', backend, async i => {
    await run.step(i)
    if (i % 100 !== 0) return
    const { model, average, optimizer } = run
    const tensors = { model: model.stateDict(), ema: average.stateDict(), optimizer: optimizer.stateDict() }
    loadCheckpoint(await saveCheckpoint(folder, tensors, { step: i }))
  })
  run.dispose()
  backend.dispose()
}

interface Counts {
  readonly steps: number
  readonly lives: number
}

const parts: Readonly<Record<string, readonly [what: string, run: (counts: Counts) => Promise<void>]>> = {
  wasm: ['MDT tiny on wasm, 2 threads, batch 2 of 8 px', ({ steps }) => train('wasm', tiny, 2, steps)],
  gpu: ['a smaller MDT on gpu.js in its cpu mode, batch 1 of 8 px', ({ steps }) => train('gpu:cpu', tinier, 1, steps)],
  models: [
    'models made, trained for a step and disposed of, on wasm',
    async ({ lives }) => {
      const backend = await ready({ backend: 'wasm', threads: 2 })
      await soak(lives, 'model', backend, async i => {
        const run = new Training(tinier, 1)
        await run.step(i)
        run.dispose()
      })
    },
  ],
  'backends-wasm': [
    'wasm backends of 2 threads made, used and disposed of',
    ({ lives }) => soak(lives, 'backend', null, () => use(() => createWasm({ threads: 2 }))),
  ],
  'backends-gpu': [
    'backends on gpu.js in its cpu mode made, used and disposed of',
    ({ lives }) => soak(lives, 'backend', null, () => use(() => gpu({ device: 'cpu' }))),
  ],
}

/** A backend's life: one matrix product that all threads take part in, and its gradient. */
async function use(open: () => Promise<Backend>): Promise<void> {
  const backend = await open()
  const { name } = backend
  const value = ones([64, 64], { backend })
  const x = value.requireGrad()
  const y = scope(() => sum(matmul(x, x)))
  backward(y)
  if ((await y.item()) !== 64 ** 3) throw new Error(`${name}: a wrong sum`)
  for (const t of [x.grad!, x, value, y]) t.dispose()
  if (backend.stats().storages !== 0) throw new Error(`${name}: ${backend.stats().storages} storages are left`)
  backend.dispose()
}

await main(async () => {
  const names = Object.keys(parts)
  const { steps, lives, only, part } = readFlags({
    command: 'npm run soak --',
    about: 'What a process holds while it trains for long, and while models and backends come and go.',
    flags: {
      steps: { type: 'integer', min: 1, default: 2000, about: 'training steps' },
      lives: { type: 'integer', min: 1, default: 1000, about: 'models and backends' },
      only: { type: 'list', choices: names, about: 'these parts' },
      part: { type: 'text', choices: names, about: 'for the processes that hold: which part to run' },
    },
    examples: [
      ['', 'all of it, ten minutes'],
      ['--only wasm --steps 200', 'one part, shorter'],
    ],
  })
  if (part !== undefined) return parts[part][1]({ steps, lives })
  for (const name of only) {
    console.log(`\n${name}: ${parts[name][0]}`)
    const args = ['--part', name, '--steps', String(steps), '--lives', String(lives)]
    const child = spawn(process.execPath, [...process.execArgv, '--expose-gc', import.meta.filename, ...args], {
      stdio: 'inherit',
    })
    const code = await new Promise(resolve => child.on('close', resolve))
    if (code !== 0) process.exitCode = 1
  }
})
