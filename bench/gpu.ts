/**
 * `npm run bench -- --backend gpu [--batch 64] [--preset S/2]`: how fast a GPU is with these kernels, and what the host
 * does for it: products, a DiT block, a training step of MDT and a step of sampling, with dispatches, submits and
 * JavaScript time of each, memory that is newly taken per step (none, once a step repeats), and, where the device has a
 * clock, each kernel's share of the training step. Beside PyTorch eager on the same card where the Python that
 * DEMASK_PYTHON names has torch with CUDA. `--quick` takes tiny sizes, to see that all is well on a software adapter.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { GpuBackend } from '../core/backends/gpu/index.ts'
import type { WebGpuDevice } from '../core/backends/gpu/webgpu/device.ts'
import { type BackendName, matmul, ready, rng, scope } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import { median, table } from './table.ts'
import { ditBlock, ditStep, mdtStep, productFlops, samplingStep, type Workload } from './workloads.ts'

export interface GpuBenchOptions {
  readonly backend: BackendName
  readonly batch: number
  readonly preset: string
  readonly quick: boolean
}

interface Measured {
  readonly name: string
  readonly ms: number
  readonly hostMs: number
  readonly flops: number
  readonly dispatches: number
  readonly submits: number
  readonly newBytes: number
}

/** Runs everything and prints it. Throws UserError where the backend is no gpu. */
export async function gpuBench({ backend: name, batch, preset, quick }: GpuBenchOptions): Promise<void> {
  const chosen = await ready({ backend: name })
  if (!('device' in chosen)) throw new UserError(`bench: --backend: expected gpu, got '${name}'`)
  const backend = chosen as GpuBackend
  const repeats = quick ? 1 : 10
  const results: Measured[] = []

  for (const n of quick ? [64] : [512, 1024, 2048, 4096])
    results.push(await measure(backend, product(n), 2 * n ** 3, quick ? 1 : 20))
  const trainingStep = () => mdtStep(backend, quick ? 1 : batch, preset)
  const workloads = [
    () => ditBlock(backend, quick ? 1 : batch),
    () => ditStep(backend, quick ? 1 : batch, preset),
    trainingStep,
    ...(quick ? [] : [() => samplingStep(backend, batch)]),
  ]
  for (const make of workloads) {
    const workload = make()
    const flops = productFlops(workload)
    results.push(await measure(backend, workload, flops, repeats))
    if (make === trainingStep) await shares(backend, workload)
    workload.dispose()
  }

  console.log(`\n${tableOf(results)}\n`)
  console.log(besidePyTorch(results, batch, quick))
  backend.dispose()
}

/** C = A B of n × n matrices. */
function product(n: number): Workload {
  const [a, b] = [rng(1).normal([n, n]), rng(2).normal([n, n])]
  const run = () => scope(() => void matmul(a, b))
  const dispose = () => {
    a.dispose()
    b.dispose()
  }
  return { name: `matmul ${n}³`, parts: [{ name: 'product', run }], run, dispose }
}

/** Milliseconds of a run when `repeats` follow each other, as the median of three rounds; counts are means over all runs. */
async function measure(
  backend: GpuBackend,
  { name, run }: Workload,
  flops: number,
  repeats: number,
): Promise<Measured> {
  for (let i = 0; i < 3; i++) run()
  await backend.device.settled()
  const [ms, hostMs]: number[][] = [[], []]
  const before = backend.device.counters()
  for (let round = 0; round < 3; round++) {
    const start = performance.now()
    for (let i = 0; i < repeats; i++) run()
    hostMs.push((performance.now() - start) / repeats)
    await backend.device.settled()
    ms.push((performance.now() - start) / repeats)
  }
  const after = backend.device.counters()
  const each = (key: 'dispatches' | 'submits' | 'reserved') => (after[key] - before[key]) / (3 * repeats)
  return {
    name,
    ms: median(ms),
    hostMs: median(hostMs),
    flops,
    dispatches: each('dispatches'),
    submits: each('submits'),
    newBytes: each('reserved'),
  }
}

function tableOf(results: readonly Measured[]): string {
  const rows = results.map(({ name, ms, hostMs, flops, dispatches, submits, newBytes }) => [
    name,
    ms.toFixed(2),
    (flops / ms / 1e9).toFixed(2),
    hostMs.toFixed(2),
    dispatches.toFixed(0),
    submits.toFixed(1),
    newBytes.toFixed(0),
  ])
  return table([['', 'ms', 'TFLOP/s', 'JavaScript ms', 'dispatches', 'submits', 'new bytes'], ...rows])
}

/** Prints what each kernel takes of a step by the device's own clock. */
async function shares({ device }: GpuBackend, { name, run }: Workload): Promise<void> {
  const { encoder, gpu } = device as WebGpuDevice
  if (encoder === undefined || !gpu.features.has('timestamp-query')) {
    console.log('shares of kernels: the device has no clock')
    return
  }
  encoder.startTiming()
  run()
  const found = new Map<string, { ms: number; calls: number }>()
  for (const [label, { ms, calls }] of await encoder.stopTiming()) {
    const [kernel] = label.split(' ')
    const row = found.get(kernel) ?? { ms: 0, calls: 0 }
    found.set(kernel, { ms: row.ms + ms, calls: row.calls + calls })
  }
  const total = [...found.values()].reduce((sum, { ms }) => sum + ms, 0)
  const rows = [...found]
    .sort(([, a], [, b]) => b.ms - a.ms)
    .slice(0, 15)
    .map(([kernel, { ms, calls }]) => [kernel, ms.toFixed(2), `${((100 * ms) / total).toFixed(1)} %`, String(calls)])
  console.log(`\n${name}: ${total.toFixed(1)} ms in kernels\n${table([['', 'ms', 'share', 'calls'], ...rows])}`)
}

/** PyTorch's milliseconds for what it has in common, and how ours compare; or why there are none. */
function besidePyTorch(results: readonly Measured[], batch: number, quick: boolean): string {
  const python = process.env.DEMASK_PYTHON ?? 'python3'
  const script = fileURLToPath(new URL('gpu_torch.py', import.meta.url))
  const args = [script, String(quick ? 1 : batch), quick ? 'quick' : 'full']
  const { status, stdout, stderr, error } = spawnSync(python, args, { encoding: 'utf8' })
  if (error !== undefined) return `PyTorch: ${python}: ${error.message}`
  if (status !== 0) return `PyTorch: ${python}: ${stderr.trim().split('\n').at(-1)}`
  const { device, version, ms } = JSON.parse(stdout) as { device: string; version: string; ms: Record<string, number> }
  const rows = results.flatMap(({ name, ms: ours }) => {
    const theirs = Object.entries(ms).find(([key]) => name.startsWith(key))?.[1]
    return theirs === undefined
      ? []
      : [[name, ours.toFixed(2), theirs.toFixed(2), `${((100 * theirs) / ours).toFixed(0)} %`]]
  })
  return `PyTorch ${version} eager, f32 without TF32, on ${device}\n${table([['', 'ours ms', 'PyTorch ms', 'our speed'], ...rows])}`
}
