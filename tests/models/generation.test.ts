/** How families draw: a picture is its seed's, by every sampler and in any company; what is drawn is let go of. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { planOf, type SampleFlags } from '../../cli/sample-settings.ts'
import { cpu, ready, rng, stats, tensor } from '../../core/index.ts'
import { toByte } from '../../data/index.ts'
import { pMeanVariance } from '../../diffusion/index.ts'
import { storable } from '../../io/safetensors-node.ts'
import { UserError } from '../../io/user-error.ts'
import {
  type Drawing,
  drawn,
  levelSamplers,
  maskditDrawing,
  maskdmDrawing,
  type Request,
  samplerNames,
  timestepDiffusion,
  timestepDrawing,
} from '../../models/drawing.ts'
import {
  MaskedUViT,
  MDT,
  MDTv2,
  maskDiTPreset,
  maskdmPreset,
  mdtPreset,
  mdtV2Preset,
  PreconditionedMaskDiT,
} from '../../models/index.ts'
import { recognise, type State } from '../../models/recognise.ts'
import type { Module } from '../../nn/index.ts'

const backend = await ready({ threads: 2 })
const sizes = { inputSize: 8, inChannels: 3, numClasses: 3 }
const small = { hiddenSize: 32, depth: 4, numHeads: 2 }

/** With weights that are not 0, so that classes and noise levels matter. */
function opened<M extends Module>(model: M): M {
  for (const [name, p] of model.namedParameters()) {
    const z = rng(2).fork(name).normalArray(p.size)
    const before = p.dataSync()
    p.backend.write(
      p.storage,
      before.map((v, i) => v + 0.05 * z[i]),
    )
  }
  return model
}

const init = { rng: rng(1) }
const mdt = opened(new MDT({ ...mdtPreset('tiny', sizes), ...small, classDropoutProb: 0.1 }, init))
const v2 = opened(new MDTv2({ ...mdtV2Preset('tiny', sizes), ...small, classDropoutProb: 0.1 }, init))
const maskdit = opened(new PreconditionedMaskDiT({ ...maskDiTPreset('tiny', sizes), ...small }, init))
const maskdm = opened(
  new MaskedUViT({ ...maskdmPreset('tiny').network, inputSize: 8, hiddenSize: 32, depth: 3, numHeads: 2 }, init),
)

type Draw = (request: Request) => Drawing
const guidance = { scale: 3, power: 2 }
const cases: readonly (readonly [name: string, draw: Draw, labels: number, how?: Partial<Request>])[] = [
  ...samplerNames.map(
    sampler =>
      [
        `MDT ${sampler}`,
        (r: Request) => timestepDrawing(mdt, timestepDiffusion(mdt.options), r),
        3,
        { sampler },
      ] as const,
  ),
  ['MDTv2, guided', r => timestepDrawing(v2, timestepDiffusion(v2.options), r), 3, { guidance, sampler: 'ddpm' }],
  ...levelSamplers.map(
    sampler => [`MaskDiT ${sampler}`, (r: Request) => maskditDrawing(maskdit, { ...r, sampler }), 3] as const,
  ),
  ['MaskDiT, guided', r => maskditDrawing(maskdit, { ...r, sampler: 'heun' }), 3, { guidance: { scale: 2 } }],
  ...samplerNames.map(
    sampler => [`MaskDM ${sampler}`, (r: Request) => maskdmDrawing(maskdm, 'cosine', r), 0, { sampler }] as const,
  ),
]

test('one step: every sampler goes from the last timestep to the x_0 that is predicted there', async () => {
  const d = timestepDiffusion(mdt.options)
  const seeds = [5, 6]
  const noise = tensor(Float32Array.from(seeds.flatMap(seed => [...rng(seed).normalArray(192)])), {
    shape: [2, 3, 8, 8],
  })
  const t = Int32Array.of(999, 999)
  const wanted = pMeanVariance(d, mdt.forward(noise, t, [0, 1]), noise, t, { clip: true }).predXStart.dataSync()
  for (const sampler of samplerNames) {
    const request = { seeds, labels: [0, 1], sampler, steps: 1, clip: true }
    const got = (await drawn(timestepDrawing(mdt, d, request)))!
    assert.ok(
      got.every((value, i) => Math.abs(value - wanted[i]) < 1e-3),
      sampler,
    )
  }
})

for (const [name, draw, numClasses, how] of cases)
  test(`${name}: a picture is that of its seed, alone and among others`, async () => {
    const pictures = async (seeds: readonly number[]) => {
      const labels = numClasses > 0 ? seeds.map(seed => seed % numClasses) : null
      const values = await drawn(draw({ seeds, labels, sampler: 'ddim', steps: 5, clip: true, ...how }))
      assert.is(values!.length, seeds.length * 3 * 64)
      return seeds.map((_, n) => values!.subarray(n * 192, (n + 1) * 192))
    }
    const before = stats(backend).bytes
    const together = await pictures([5, 6, 7])
    const [alone] = await pictures([7])
    const [other, again] = await pictures([8, 5])
    assert.is(stats(backend).bytes, before, 'bytes left behind')
    for (const [one, same] of [
      [together[2], alone],
      [together[0], again],
    ])
      assert.equal(Array.from(one, toByte), Array.from(same, toByte))
    assert.ok(Math.max(...other.map((v, i) => Math.abs(v - alone[i]))) > 0.05, 'another seed gives another picture')
    assert.ok(alone.every(Number.isFinite))
  })

test('a loop that is told to stop gives nothing, and leaves nothing', async () => {
  const before = stats(backend).bytes
  let asked = 0
  const drawing = timestepDrawing(mdt, timestepDiffusion(mdt.options), {
    seeds: [1],
    labels: [0],
    sampler: 'heun',
    steps: 5,
    clip: true,
  })
  assert.is(await drawn(drawing, async () => ++asked === 2), null)
  assert.is(asked, 2)
  assert.is(stats(backend).bytes, before)
  assert.is(stats(cpu).bytes, 0)
})

// ---- what is asked for, and what fits -------------------------------------------------------------------------------

const flags: SampleFlags = {
  from: 'run',
  weights: 'ema',
  part: undefined,
  heads: undefined,
  'decoder-heads': undefined,
  classes: undefined,
  schedule: undefined,
  vae: undefined,
  count: undefined,
  seed: '0',
  class: [],
  guidance: 1,
  power: undefined,
  sampler: undefined,
  steps: undefined,
  batch: undefined,
  out: 'samples.png',
  backend: undefined,
  threads: undefined,
}
const foundOf = (model: Module) =>
  recognise(new Map(storable(model.stateDict())) as unknown as State, 'file', { heads: 2, decoderHeads: 2 })
const plan = (model: Module, given: Partial<SampleFlags>) =>
  planOf({ ...flags, ...given }, foundOf(model), ['cat', 'dog', 'owl'], false)

test('seeds count up from the first, or are listed; classes take turns', () => {
  const { seeds, labels, sampler, steps, batch } = plan(mdt, { seed: '7', count: 4 })
  assert.equal([seeds, labels, sampler, steps, batch], [[7, 8, 9, 10], [0, 1, 2, 0], 'ddim', 25, 48])
  const listed = plan(mdt, { seed: '5, 3,5', class: ['owl,0', 'cat'] })
  assert.equal(
    [listed.seeds, listed.labels],
    [
      [5, 3, 5],
      [2, 0, 0],
    ],
  )
  assert.equal(plan(maskdit, {}).sampler, 'heun')
  assert.is(plan(maskdm, { count: 2 }).labels, null)
})

test('what does not fit is one line', () => {
  const wrong: readonly (readonly [Module, Partial<SampleFlags>, RegExp])[] = [
    [mdt, { seed: '1,x' }, /^--seed: wanted a whole number, or some with commas between, got '1,x'$/],
    [mdt, { seed: '-1' }, /^--seed: wanted a whole number/],
    [mdt, { seed: '1,2', count: 3 }, /^--count: wanted 2, as many as seeds, or none, got 3$/],
    [mdt, { power: 4 }, /^--power: wanted with --guidance, got it alone$/],
    [mdt, { class: ['cat,3'] }, /^--class: wanted a number below 3 or one of cat, dog, owl, got '3'$/],
    [maskdit, { sampler: 'ddpm' }, /^--sampler: wanted one of heun, euler, dpm-solver for a MaskDiT, got ddpm$/],
    [maskdit, { guidance: 2, power: 4 }, /^--power: wanted a model of timesteps, DiT or MDT, got a MaskDiT$/],
    [maskdm, { guidance: 2 }, /^--guidance: wanted a model that is guided by classes, got a MaskDM with none$/],
    [maskdm, { class: ['1'] }, /^--class: wanted a model with classes, got one without$/],
  ]
  for (const [model, given, message] of wrong)
    assert.throws(
      () => plan(model, given),
      (error: Error) => error instanceof UserError && message.test(error.message),
      String(message),
    )
})

test.run()
