/**
 * The child of paired.ts: times works of one checkout, run by run, when its parent asks. Works are looked up in that
 * checkout's bench/, so both sides of a comparison run their own code. Protocol: `{ work }` prepares, `{}` runs once.
 */

import { pathToFileURL } from 'node:url'

const [root, threads] = process.argv.slice(2)
const load = (path: string) => import(pathToFileURL(`${root}/${path}`).href)
const { createWasm } = await load('core/backends/wasm/index.ts')
const { rng, matmul, layerNorm, softmax, geluTanh, selfAttention, backward, scope, setDefaultBackend } =
  await load('core/index.ts')
const { chainTimes } = await load('bench/chain.ts')
const workloads = await load('bench/workloads.ts')
const backend = await createWasm({ threads: Number(threads) })
setDefaultBackend(backend)

interface Work {
  run(): void
  dispose(): void
  /** A work that times itself, in milliseconds. */
  time?(): number
}

function op(shapes: readonly (readonly number[])[], run: (...x: unknown[]) => unknown): Work {
  const inputs = shapes.map(shape => rng(1).normal(shape, { backend }))
  return {
    run: () => scope(() => void run(...inputs)),
    dispose: () => {
      for (const x of inputs) x.dispose()
    },
  }
}

/** Attention of 512 or more tokens in all, with heads of 64, and its gradient. */
function attention(T: number, heads = 6): Work {
  const shape = [Math.max(1, 512 / T), T, 64 * heads]
  const qkv = rng(1)
    .normal(shape.with(2, 3 * 64 * heads), { backend })
    .requireGrad()
  const g = rng(2).normal(shape, { backend })
  return {
    run: () => {
      scope(() => backward(selfAttention(qkv, null, heads), g))
      qkv.grad.dispose()
      qkv.grad = null
    },
    dispose: () => {
      for (const x of [qkv, g]) x.dispose()
    },
  }
}

const works: Record<string, () => Work> = {
  chain: () => ({ run() {}, dispose() {}, time: () => Math.min(...chainTimes(backend, 50)) }),
  'matmul 512³': () => op([[512, 512], [512, 512]], matmul), // biome-ignore format: one line a work
  'layer norm': () => op([[4096, 384]], x => layerNorm(x, null, null, 1e-6)),
  softmax: () => op([[3072, 64]], x => softmax(x)),
  gelu: () => op([[2 ** 22]], geluTanh),
  'attention 64': () => attention(64),
  'attention 256': () => attention(256),
  'attention 1024': () => attention(1024),
  adamW: () => workloads.adamW(backend, 33 * 10 ** 6),
  ditBlock: () => workloads.ditBlock(backend),
  ditStep: () => workloads.ditStep(backend),
  mdtStep: () => workloads.mdtStep(backend),
  mdtV2Step: () => workloads.mdtV2Step(backend),
  maskditStep: () => workloads.maskditStep(backend),
  maskdmStep: () => workloads.maskdmStep(backend),
  autoencoderStep: () => workloads.autoencoderStep(backend),
  samplingStep: () => workloads.samplingStep(backend),
}

/** Short works are repeated until a run takes about this many milliseconds. */
const shortest = 20
let work: Work | null = null
let repeats = 1

function timed(count: number): number {
  const start = performance.now()
  for (let i = 0; i < count; i++) work!.run()
  return (performance.now() - start) / count
}

process.on('message', (message: { work?: string }) => {
  if (message.work === undefined) return void process.send!({ ms: work!.time?.() ?? timed(repeats) })
  work?.dispose()
  work = works[message.work]()
  timed(1)
  repeats = Math.max(1, Math.ceil(shortest / Math.max(timed(1), 0.001)))
  process.send!({ ready: message.work })
})
process.send!({ works: Object.keys(works) })
