/** Optimizers and averages that keep one rank's share: two of them, in one process, beside a whole one. Over MPI: tests/distributed. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, mean, ready, rng, scope, square, type Tensor } from '../../core/index.ts'
import { alone, type World } from '../../distributed/index.ts'
import { AdamW, Adan, constantDecay, Ema, Linear, type Optimizer, Sequential } from '../../nn/index.ts'
import { OptimizerShards, shareOut } from '../../training/optimizer-shards.ts'

const wasm = await ready({ backend: 'wasm', threads: 1 })

/** A model, its average and its optimizer. */
function trainee(kind: 'AdamW' | 'Adan') {
  const make = (init: { rng: ReturnType<typeof rng> | null }) =>
    new Sequential([new Linear(4, 8, init), new Linear(8, 4, init), new Linear(4, 2, init)])
  const model = make({ rng: rng(1) })
  const ema = new Ema(model, make({ rng: null }), { decay: constantDecay(0.5) })
  const options = { lr: 0.1, weightDecay: 0.1 }
  const named = [...model.namedParameters()]
  const optimizer: Optimizer = kind === 'AdamW' ? new AdamW(named, options) : new Adan(named, options)
  const step = (seed: number) =>
    scope(() => {
      backward(mean(square(model.forward(rng(seed).normal([5, 4])))))
      ema.update(optimizer.step({ maxNorm: 0.5 }).finite)
      optimizer.zeroGrad()
    })
  return { model, ema, optimizer, step }
}

const valuesOf = (tensors: ReadonlyMap<string, Tensor>) =>
  Object.fromEntries([...tensors].map(([name, t]) => [name, [...t.dataSync()]]))

for (const kind of ['AdamW', 'Adan'] as const)
  test(`${kind}: two shares move the weights as one whole optimizer does`, () => {
    const whole = trainee(kind)
    const halves = [trainee(kind), trainee(kind)]
    const names = shareOut(halves[0].optimizer.parameters, 2)
    const worlds = halves.map(
      (_, rank): World => ({
        ...alone,
        rank,
        size: 2,
        first: rank === 0,
        broadcast(tensors, from = 0) {
          const source = names[from].map(name => halves[from].optimizer.parameters.get(name)!)
          if (from !== rank) tensors.forEach((t, i) => void wasm.write(t.storage, source[i].dataSync()))
        },
      }),
    )
    whole.step(0) // before anything is shared out: state that is dropped
    for (const { step } of halves) step(0)
    const bytes = wasm.stats().bytes
    const shards = halves.map((half, rank) => new OptimizerShards(worlds[rank], half))
    assert.ok(wasm.stats().bytes < bytes, 'memory')

    for (let seed = 1; seed < 4; seed++) {
      whole.step(seed)
      for (const { step } of halves) step(seed)
      for (const shard of shards) shard.sendParameters()
    }
    for (const { model } of halves) assert.equal(valuesOf(model.stateDict()), valuesOf(whole.model.stateDict()))
    const state = valuesOf(whole.optimizer.stateDict())
    const kept = halves.map(({ optimizer }) => valuesOf(optimizer.stateDict()))
    assert.equal({ ...kept[0], ...kept[1] }, state)
    const [average, ...averages] = [whole, ...halves].map(({ ema }) => valuesOf(ema.average.stateDict()))
    for (const [rank, own] of names.entries()) {
      for (const name of own) {
        assert.equal(averages[rank][name], average[name])
        assert.ok(`exp_avg.${name}` in kept[rank] && !(`exp_avg.${name}` in kept[1 - rank]))
      }
      // The other averages share the model's memory.
      for (const name of names[1 - rank]) assert.equal(averages[rank][name], valuesOf(whole.model.stateDict())[name])
    }

    // A whole state loads into a share, which keeps its part.
    halves[1].optimizer.loadStateDict(whole.optimizer.stateDict())
    assert.equal(valuesOf(halves[1].optimizer.stateDict()), kept[1])
    for (const { model, ema, optimizer } of [whole, ...halves])
      for (const each of [optimizer, ema.average, model]) each.dispose()
    assert.is(wasm.stats().storages, 0)
  })

test('shares are even, and every parameter is in one', () => {
  const { optimizer, model, ema } = trainee('AdamW')
  const shares = shareOut(optimizer.parameters, 3)
  assert.equal(shares.flat().sort(), [...optimizer.parameters.keys()].sort())
  const elements = shares.map(own => own.reduce((n, name) => n + optimizer.parameters.get(name)!.size, 0))
  assert.equal(elements, [32, 32, 22])
  for (const each of [optimizer, ema.average, model]) each.dispose()
})

test.run()
