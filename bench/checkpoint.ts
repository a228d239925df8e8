/**
 * Savings and cost of `checkpoint` around every block of MDT-S/2 (16 px, 64 tokens, batch 8): bytes that the tape holds
 * when the forward of the full picture ends, the most beyond weights until the gradient by the picture is there, the most
 * of a whole training step, and its processor time, so that a busy machine disturbs little. One thread, taking turns.
 * Run: npm run bench -- checkpoint.
 */

import process from 'node:process'
import {
  type Backend,
  backward,
  checkpoint,
  gradients,
  mean,
  rng,
  scope,
  stats,
  type Tensor,
  tensor,
} from '../core/index.ts'
import { gaussianDiffusion, linearBetas } from '../diffusion/index.ts'
import { MDT, mdtPreset, passLoss, sampleMDTInputs } from '../models/index.ts'
import { AdamW } from '../nn/index.ts'
import { table } from './table.ts'

const N = 8
const repeats = 3

/** Goals of checkpointing: factor of memory saved, and factor of time spent. */
const wanted = { memory: 3, time: 1.4 }

/** From now on `model` keeps of each block what goes in, and computes it again on the way back. */
function checkpointBlocks(model: MDT): void {
  for (const block of [...model.blocks, ...model.sideblocks]) {
    const forward = block.forward.bind(block)
    block.forward = (x: Tensor, c: Tensor, pairs: Tensor | null = null) =>
      checkpoint(([x, c, pairs = null]) => forward(x, c, pairs), pairs === null ? [x, c] : [x, c, pairs])
  }
}

/** A model, with its blocks checkpointed or not, and what is measured of it. */
function subject(backend: Backend, checkpointed: boolean) {
  const options = mdtPreset('S/2', { inputSize: 16, inChannels: 3, numClasses: 0 })
  const random = rng(1)
  const model = new MDT(options, { rng: random.fork('weights') })
  if (checkpointed) checkpointBlocks(model)
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 })
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  const images = random.uniformArray(N * 3 * 16 * 16)
  const t = random.integersArray(1, diffusion.steps, N)
  const pictures = () => tensor(images, { shape: [N, 3, 16, 16] })
  const beyond = (before: number, bytes: number) => bytes - before

  const step = () =>
    scope(() => {
      const x0 = pictures()
      const { full, masked } = sampleMDTInputs(model, x0, null, random)
      for (const pass of [full, masked]) backward(scope(() => mean(passLoss(model, diffusion, x0, t, pass).loss)))
      optimizer.step()
      optimizer.zeroGrad()
    })

  /** Bytes of the tape after the forward, and the most until the gradient by the picture: no weight's gradient counts. */
  const activations = () =>
    scope(() => {
      const x0 = pictures().requireGrad()
      const { full } = sampleMDTInputs(model, x0, null, random)
      const before = stats(backend).bytes
      backend.resetPeak()
      const loss = scope(() => mean(passLoss(model, diffusion, x0, t, full).loss))
      const held = beyond(before, stats(backend).bytes)
      gradients(loss, [x0])
      return { held, most: beyond(before, stats(backend).peakBytes) }
    })

  const dispose = () => {
    optimizer.dispose()
    model.dispose()
  }
  return { step, activations, dispose }
}

export function checkpointing(backend: Backend): void {
  const measured = [false, true].map(checkpointed => {
    const base = stats(backend).bytes
    const { step, activations, dispose } = subject(backend, checkpointed)
    step() // makes the optimizer's state
    backend.resetPeak()
    step()
    const peak = stats(backend).peakBytes - base
    return { ...activations(), peak, step, dispose, ms: Infinity }
  })
  for (let i = 0; i < repeats; i++)
    for (const subject of measured) {
      const before = process.cpuUsage()
      subject.step()
      const { user, system } = process.cpuUsage(before)
      subject.ms = Math.min(subject.ms, (user + system) / 1000)
    }
  const mega = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
  const [plain, saving] = measured
  const less = (what: 'held' | 'most' | 'peak') => `${(plain[what] / saving[what]).toFixed(2)} ×`
  console.log(
    table([
      ['MDT-S/2, batch 8', 'on the tape', 'activations at the most', 'step at the most', 'step, ms of processor'],
      ...measured.map(({ held, most, peak, ms }, i) => [
        ['plain', 'every block checkpointed'][i],
        ...[held, most, peak].map(mega),
        ms.toFixed(0),
      ]),
      ['saved', less('held'), less('most'), less('peak'), `${(saving.ms / plain.ms).toFixed(2)} × the time`],
    ]),
  )
  for (const { dispose } of measured) dispose()
  if (plain.most / saving.most < wanted.memory || saving.ms / plain.ms > wanted.time) {
    console.log(`wanted: activations ${wanted.memory} × less for ${wanted.time} × the time or better`)
    process.exitCode = 1
  }
}
