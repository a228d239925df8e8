/**
 * Checks that memory stays flat while models train: bytes of the wasm backend's tensors after a few steps and after many, which
 * must be equal, and the linear memory below them, which never shrinks. It holds what one step needs at the most and the
 * holes between blocks; where shapes change from step to step, as those of MDTv2 do with its mask ratio, a hole may be
 * found too small later on, so that it grows by and by. Run: npm run bench -- growth.
 */

import { createWasm } from '../core/backends/wasm/index.ts'
import { defaultBackend, setDefaultBackend } from '../core/index.ts'
import { table } from './table.ts'
import { autoencoderStep, ditStep, maskditStep, maskdmStep, mdtStep, mdtV2Step, type Workload } from './workloads.ts'

type Make = (backend: Awaited<ReturnType<typeof createWasm>>) => Workload

const small = { latentChannels: 4, blockOutChannels: [32, 64], layersPerBlock: 1, normGroups: 8 }

/** Small networks of all models, whose steps are the same kernels as those of large ones. */
export const growing: Readonly<Record<string, Make>> = {
  DiT: backend => ditStep(backend, 4, 'tiny'),
  MDT: backend => mdtStep(backend, 4, 'tiny'),
  MDTv2: backend => mdtV2Step(backend, 4, 'tiny'),
  MaskDiT: backend => maskditStep(backend, 4, 'tiny'),
  MaskDM: backend => maskdmStep(backend, 4, 'tiny'),
  autoencoder: backend => autoencoderStep(backend, 1, small),
}

/** Bytes after one step: of tensors, and of the linear memory. */
export interface Mark {
  readonly step: number
  readonly bytes: number
  readonly linear: number
}

/** Memory of a model's training after each of `steps` (rising), and the number of kernels that ran as plain loops. */
export async function growthOf(make: Make, steps: readonly number[]): Promise<{ marks: Mark[]; fallbacks: number }> {
  const before = defaultBackend()
  const backend = await createWasm({ threads: 1 })
  const marks: Mark[] = []
  try {
    const workload = make(backend)
    for (let step = 1; step <= steps[steps.length - 1]; step++) {
      workload.run()
      if (steps.includes(step)) marks.push({ step, bytes: backend.stats().bytes, linear: backend.runtime.memoryBytes })
    }
    workload.dispose()
    return { marks, fallbacks: backend.stats().fallbacks }
  } finally {
    backend.dispose()
    setDefaultBackend(before)
  }
}

const mega = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`

/** Prints the table; the exit code tells whether tensors took as much at the end as at the beginning, without fallbacks. */
export async function growth(): Promise<void> {
  const steps = [4, 50, 200]
  const rows = [['', ...steps.map(n => `tensors, step ${n}`), ...steps.map(n => `memory, step ${n}`), 'plain loops']]
  for (const [name, make] of Object.entries(growing)) {
    process.stderr.write(`${name}\n`)
    const { marks, fallbacks } = await growthOf(make, steps)
    rows.push([
      name,
      ...marks.map(({ bytes }) => String(bytes)),
      ...marks.map(({ linear }) => mega(linear)),
      String(fallbacks),
    ])
    if (marks.some(({ bytes }) => bytes !== marks[0].bytes) || fallbacks > 0) process.exitCode = 1
  }
  console.log(table(rows))
}
