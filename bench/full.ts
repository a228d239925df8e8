/**
 * The second half of `npm run bench`: ops, a DiT block, training steps of all models and a sampling step, on one
 * thread and on two in turns, each as a fraction of what the same run measures the machine to be capable of. Products are
 * held against multiply-adds on registers, passes over memory against memory bandwidth.
 */

import { type Backend, geluTanh, layerNorm, matmul, rng, type Shape, scope, softmax } from '../core/index.ts'
import { table } from './table.ts'
import { alternate, type Lane, openLanes, settleLanes, type Timing } from './threads.ts'
import {
  adamW,
  autoencoderStep,
  ditBlock,
  ditStep,
  maskditStep,
  maskdmStep,
  mdtStep,
  mdtV2Step,
  productFlops,
  samplingStep,
  type Workload,
} from './workloads.ts'

/** One line of the table. */
export interface Figure extends Timing {
  readonly name: string
  readonly rate: number
  readonly unit: 'GFLOP/s' | 'GB/s'
  /** Of the ceiling for as many threads: of the fastest run. */
  readonly fraction: number
}

/** Results of `npm run bench` in a recorded run. */
export interface OwnResults {
  readonly build: string
  readonly ceilings: readonly { readonly threads: number; readonly gflops: number; readonly gbs: number }[]
  readonly figures: readonly Figure[]
  /** From one thread to two, of the fastest runs. */
  readonly gain?: { readonly block: number; readonly multiplyAdds: number }
  /** Kernels that ran as plain loops, in all steps. */
  readonly fallbacks: number
}

interface Task {
  readonly name: string
  /** Operations, or bytes, of one run. */
  readonly flops?: number
  readonly bytes?: number
  readonly seconds?: number
  make(backend: Backend): { run(): void; dispose(): void }
}

/** An op on drawn inputs. */
function op(backend: Backend, shapes: readonly Shape[], run: (...x: ReturnType<typeof sampleNormal>[]) => unknown) {
  const inputs = shapes.map(shape => sampleNormal(backend, shape))
  return {
    run: () => scope(() => void run(...inputs)),
    dispose: () => {
      for (const x of inputs) x.dispose()
    },
  }
}

const product = (backend: Backend, ...shapes: Shape[]) => op(backend, shapes, (a, b) => matmul(a, b))
const sampleNormal = (backend: Backend, shape: Shape) => rng(1).normal(shape, { backend })

const million33 = 33 * 10 ** 6

const ops: readonly Task[] = [
  {
    name: 'matmul 512³',
    flops: 2 * 512 ** 3,
    make: backend => product(backend, [512, 512], [512, 512]),
  },
  {
    name: 'matmul 512×1536×384',
    flops: 2 * 512 * 1536 * 384,
    make: backend => product(backend, [512, 384], [384, 1536]),
  },
  {
    name: 'layer norm 4096×384',
    bytes: 8 * 4096 * 384,
    make: backend => op(backend, [[4096, 384]], x => layerNorm(x, null, null, 1e-6)),
  },
  { name: 'softmax 3072×64', bytes: 8 * 3072 * 64, make: backend => op(backend, [[3072, 64]], x => softmax(x)) },
  { name: 'gelu (tanh) 4M', bytes: 8 * 2 ** 22, make: backend => op(backend, [[2 ** 22]], geluTanh) },
  { name: 'AdamW, 33 M parameters', bytes: 28 * million33, make: backend => adamW(backend, million33) },
]

const steps: readonly ((backend: Backend) => Workload)[] = [
  ditBlock,
  ditStep,
  mdtStep,
  mdtV2Step,
  maskditStep,
  maskdmStep,
  autoencoderStep,
  samplingStep,
]

/** Rates and fractions of one task. */
function figures(lanes: readonly Lane[], { name, flops, bytes }: Task, timings: readonly Timing[]): Figure[] {
  return timings.map((timing, i) => {
    const rate = (flops ?? bytes!) / timing.min / 1e6
    const limit = flops === undefined ? lanes[i].bandwidth : lanes[i].ceiling
    return { ...timing, name, rate, unit: flops === undefined ? 'GB/s' : 'GFLOP/s', fraction: rate / limit }
  })
}

function line({ name, threads, min, median, rate, unit, fraction }: Figure): string[] {
  return [
    name,
    String(threads),
    min.toFixed(2),
    median.toFixed(2),
    `${rate.toFixed(1)} ${unit.padEnd(7)}`,
    `${(100 * fraction).toFixed(0)} %`,
  ]
}

/** Times everything, prints the table and returns it. `quick` makes as few runs as it can. */
export async function full({ quick = false } = {}): Promise<OwnResults> {
  const least = quick ? 1 : 3
  const opened = await openLanes()
  const timed: { readonly task: Task; readonly timings: readonly Timing[] }[] = []
  const time = (task: Task, seconds: number) => {
    process.stderr.write(`${task.name}\n`)
    timed.push({ task, timings: alternate(opened, task.make, { seconds: quick ? 0 : seconds, least }) })
  }
  for (const task of ops) time(task, 2)
  for (const make of steps) {
    const counted = make(opened[0].backend)
    counted.run()
    const task = { name: counted.name, flops: productFlops(counted), make }
    counted.dispose()
    time(task, 12)
  }
  const lanes = await settleLanes(opened)
  const all = timed.flatMap(({ task, timings }) => figures(lanes, task, timings))
  const fallbacks = lanes.reduce((sum, { backend }) => sum + backend.stats().fallbacks, 0)

  const heads = ['', 'threads', 'min ms', 'median ms', 'at best', 'of the ceiling']
  console.log(`${lanes[0].backend.build} build; ceilings of this run:`)
  for (const { threads, ceiling, bandwidth } of lanes)
    console.log(
      `  ${threads} thread${threads > 1 ? 's' : ''}: ${ceiling.toFixed(1)} GFLOP/s of multiply-adds, ${bandwidth.toFixed(1)} GB/s of memory`,
    )
  console.log(`\n${table([heads, ...all.map(line)])}\n`)
  const gain = gainOf(lanes, all)
  if (gain !== undefined)
    console.log(
      `from one thread to two: DiT block ${gain.block.toFixed(2)} ×, multiply-adds ${gain.multiplyAdds.toFixed(2)} ×, ` +
        `the one of the other ${(gain.block / gain.multiplyAdds).toFixed(2)}`,
    )
  console.log(`kernels that ran as plain loops: ${fallbacks}`)
  for (const { backend } of lanes) backend.dispose()
  return {
    build: lanes[0].backend.build,
    ceilings: lanes.map(({ threads, ceiling, bandwidth }) => ({ threads, gflops: ceiling, gbs: bandwidth })),
    figures: all,
    ...(gain === undefined ? {} : { gain }),
    fallbacks,
  }
}

function gainOf(lanes: readonly Lane[], all: readonly Figure[]): OwnResults['gain'] {
  const [one, two] = all.filter(({ name }) => name.startsWith('DiT block'))
  if (two === undefined) return undefined
  return { block: one.min / two.min, multiplyAdds: lanes[1].ceiling / lanes[0].ceiling }
}
