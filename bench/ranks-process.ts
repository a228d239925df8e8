/**
 * One rank of bench/ranks.ts, or a process beside it. `sum` times the sum of the gradients of MDT-S/2 over the ranks and a copy
 * of as many floats; `step` times training steps of MDT-S/2, each rank with its part of a batch. Rank 0 prints JSON.
 */

import { backward, ready, rng, type Tensor, zeros } from '../core/index.ts'
import { init } from '../distributed/index.ts'
import { mdt } from '../models/index.ts'
import { constant, Ema, warmUpDecay } from '../nn/index.ts'
import { newSettings, runStep } from '../training/index.ts'
import { OptimizerShards } from '../training/optimizer-shards.ts'
import { median } from './table.ts'

const [, , what, threads, batch, sharded] = process.argv
const world = await init()
const backend = await ready({ backend: 'wasm', threads: Number(threads) })
const settings = newSettings(mdt, { preset: 'S/2' })

/** Milliseconds of `times` runs of `work`, which all ranks begin together. */
function timed(times: number, work: () => void): number[] {
  return Array.from({ length: times }, () => {
    world.any(false)
    const began = performance.now()
    work()
    return performance.now() - began
  })
}

function sum(): object {
  const options = mdt.options('S/2', { inputSize: 32, inChannels: 4, numClasses: 1000 }, settings)
  const model = mdt.make(options, { rng: null })
  const gradients = model.parameters().map(({ shape }) => zeros(shape))
  model.dispose()
  const floats = gradients.reduce((n, { size }) => n + size, 0)
  const [from, to] = [0, 1].map(() => new Float32Array(new SharedArrayBuffer(4 * floats)))
  timed(2, () => world.allSum(gradients))
  const sums = timed(9, () => world.allSum(gradients))
  const copies = timed(9, () => to.set(from))
  return { floats, sum: median(sums), least: Math.min(...sums), copy: median(copies), leastCopy: Math.min(...copies) }
}

async function steps(): Promise<object> {
  const options = mdt.options('S/2', { inputSize: 16, inChannels: 3, numClasses: 0 }, settings)
  const random = rng(1)
  const model = mdt.make(options, { rng: random.fork('weights') })
  const ema = new Ema(model, mdt.make(options, { rng: null }), { decay: warmUpDecay(0.999) })
  const optimizer = mdt.training.optimizer(model.namedParameters(), settings)
  const shards = sharded === 'sharded' ? new OptimizerShards(world, { ema, optimizer }) : null
  const own = Number(batch) / world.size
  const images = random.uniformArray(own * 3 * 16 * 16)
  const schedule = constant(1e-4)
  const ms: number[] = []
  for (let step = 0; step < 5; step++) {
    world.any(false)
    const began = performance.now()
    await runStep(
      {
        step,
        progress: 0,
        images,
        shape: [own, 3, 16, 16],
        labels: null,
        parts: world.size,
        own: [world.rank, world.rank + 1],
        allSum: world.size > 1 ? (tensors: readonly Tensor[]) => world.allSum(tensors) : undefined,
        rng: random,
      },
      model.parameters(),
      part => {
        for (const pass of mdt.training.passes(model, part, settings)) {
          const { loss, terms } = pass()
          backward(loss)
          part.report(terms)
        }
      },
      losses => {
        const info = optimizer.step({ lr: schedule(step), losses })
        ema.update(info.finite)
        optimizer.zeroGrad()
        shards?.sendParameters()
        return info
      },
    )
    if (step > 0) ms.push(performance.now() - began)
    if (step === 0) backend.resetPeak()
  }
  const { total } = model.countParameters()
  return { ms: median(ms), parameters: total, bytes: backend.stats().bytes, peakBytes: backend.stats().peakBytes }
}

const result = what === 'sum' ? sum() : await steps()
if (world.first) console.log(`result ${JSON.stringify(result)}`)
world.end()
