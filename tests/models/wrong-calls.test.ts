/**
 * Every public function and class of models answers wrong calls in one line that begins with its name. One that has no right
 * call here fails the test.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng, shapes } from '../../core/index.ts'
import * as models from '../../models/index.ts'
import { constructing, floats, type RightCall, testCalls } from '../core/wrong-calls.ts'

const init = () => ({ rng: rng(0), dtype: 'f32', backend: cpu }) as const
const pictures = { inputSize: 4, inChannels: 1, numClasses: 2 }
const body = {
  ...pictures,
  patchSize: 2,
  hiddenSize: 4,
  depth: 2,
  numHeads: 2,
  mlpRatio: 1,
}
const sizes = { ...body, classDropoutProb: 0.5, learnSigma: true }
const mdtSizes = { ...sizes, maskRatio: 0.5, decodeLayer: 1 }
const maskDiTSizes = {
  ...body,
  classDropoutProb: 0.5,
  decoder: { hiddenSize: 4, depth: 1, numHeads: 2 },
  maeLossCoef: 0.5,
}
const maskdmSizes = { ...body, qkvBias: true, mlpTimeEmbed: true }
const vaeSizes = {
  inChannels: 1,
  outChannels: 1,
  latentChannels: 2,
  blockOutChannels: [4],
  layersPerBlock: 1,
  normGroups: 2,
  scalingFactor: 0.5,
}

const d = models.timestepDiffusion({ learnSigma: true })
const maskdm = models.maskdmDiffusion({ T: 40 })
const network = (z: unknown) => z
const x = () => floats(2, 1, 4, 4)
const t = () => [0, 19]
const labels = () => [0, 1]

const dit = new models.DiT(sizes, init())
const mdt = new models.MDT(mdtSizes, init())
const ablated = new models.AblatedMDT(mdtSizes, {}, init())
const maskDiT = new models.PreconditionedMaskDiT(maskDiTSizes, init())
const unet = new models.MaskedUViT(maskdmSizes, init())
const vae = new models.AutoencoderKL(vaeSizes, init())

const part = () => ({ images: x(), labels: labels(), rng: rng(0), progress: 0.5 })
const loss = { weighting: 'uniform', rescaleVb: true }
const mdtInputs = () => models.sampleMDTInputs(mdt, x(), labels(), rng(0))
const sampling = () => ({ steps: 2, eta: 0.5, noise: rng(0) })
const masking = { way: 'patch', ratio: 0.5 } as const
const recognised = () => ({ family: models.dit, options: sizes, preset: null, state: dit.stateDict() })
function* steps() {
  yield { x: floats(1), predXStart: floats(1) }
}

type Row = readonly [args: () => readonly unknown[], accepts?: readonly string[]]

const functions: Record<string, Row> = {
  ablatedLoss: [() => [ablated, d, x(), t(), mdtInputs(), loss]],
  ablatedPasses: [() => [ablated, d, part(), loss], ['2.progress', '3 object']],
  autoencoderConfig: [() => [vaeSizes]],
  autoencoderLoss: [() => [vae, x(), 0.5, rng(0)]],
  describe: [() => [recognised()], ['0.preset', '0.state']],
  ditPreset: [() => ['S/2', pictures]],
  extraTokens: [() => [{ numClasses: 2 }]],
  familyOf: [() => ['DiT']],
  maskDiTLoss: [() => [maskDiT, x(), models.sampleMaskDiTInputs(maskDiT, x(), labels(), 0.5, rng(0))]],
  maskDiTPreset: [() => ['S/2', pictures]],
  maskRatioOf: [() => [{ maskRatio: 0.5, tune: 'zero' }]],
  maskRatioSchedule: [() => ['linear', { ratio: 0.5, least: 0.25 }]],
  maskdmDiffusion: [() => [{ schedule: 'cosine', shiftTo: 64, T: 40, prediction: 'v' }]],
  maskdmPreset: [() => ['tiny']],
  maskdmSample: [() => [maskdm, network, x(), { ...sampling(), onStep: () => {} }]],
  maskdmSteps: [() => [maskdm, network, x(), sampling()]],
  maskedDenoisingScoreMatching: [
    () => [
      unet,
      maskdm,
      x(),
      t(),
      models.sampleMaskDMInputs(unet, x(), masking, rng(0)),
      { labels: labels(), error: 'l1' },
    ],
  ],
  maskingOf: [() => [{ stage: 'pretrain', mask: 'patch', maskRatio: 0.5, maskSize: 2 }]],
  mdtLoss: [() => [mdt, d, x(), t(), mdtInputs(), loss]],
  mdtPasses: [() => [mdt, d, part(), loss], ['2.progress', '3 object']],
  mdtPreset: [() => ['S/2', pictures]],
  mdtV2Preset: [() => ['S/2', pictures]],
  passLoss: [() => [mdt, d, x(), t(), mdtInputs().masked, loss]],
  readGenerated: [() => [steps(), async () => false], ['1 undefined', '1 arguments']],
  recognise: [() => [dit.stateDict(), 'path', { heads: 2 }], ['1 string']],
  sampleMDTInputs: [() => [mdt, x(), labels(), rng(0)], ['2 null']],
  sampleMaskDMInputs: [() => [unet, x(), masking, rng(0)], ['2 null']],
  sampleMaskDiTInputs: [() => [maskDiT, x(), labels(), 0.5, rng(0)], ['2 null']],
  seedNoise: [
    () => [
      [1, 2],
      [2, 3],
    ],
  ],
  timestepDiffusion: [() => [{ learnSigma: true }], ['0 object']],
  tinyFor: [() => [16]],
  trainingDefaults: [() => ['S/2']],
  transferTable: [() => [[{ name: 'w', shape: [2], fate: 'taken' }]]],
  transferWeights: [
    () => [models.dit, new models.DiT(sizes, init()), { options: sizes }, { ...recognised(), classes: ['a', 'b'] }],
    [
      '0.command',
      '0.presets',
      '0.defaultPreset',
      '0.options',
      '0.make',
      '0.training',
      '0.generation',
      '0.cost',
      '3.preset',
    ],
  ],
  unmaskingTuning: [() => ['cosine', 0.5]],
}

const classes: Record<string, Row> = {
  AblatedMDT: [
    () => [
      mdtSizes,
      {
        maskingRatio: 0.5,
        decoderPosition: 'Last1',
        asymmetricStructure: true,
        sideInterpolator: true,
        maskedShortcut: true,
        latentType: 'full',
        supervisedParts: 'all',
        interpolatorBlocks: 1,
        interpolatorPosEmbed: true,
        learnablePos: true,
        relativePosBias: true,
      },
      init(),
    ],
  ],
  AutoencoderKL: [() => [vaeSizes, init()]],
  DiT: [() => [sizes, init()]],
  DiTBlock: [() => [{ hiddenSize: 4, numHeads: 2, mlpRatio: 1 }, init(), 4], ['2 arguments']],
  DiagonalGaussian: [() => [floats(1, 2, 2, 2)]],
  FinalLayer: [() => [{ hiddenSize: 4, patchSize: 2, inChannels: 1, learnSigma: true }, init(), 4], ['2 arguments']],
  MDT: [() => [mdtSizes, init()]],
  MDTBlock: [() => [{ ...body }, init(), { skip: true }], ['0.depth', '0.inChannels', '0.numClasses']],
  MDTv2: [() => [mdtSizes, init()]],
  MaskDiT: [() => [maskDiTSizes, init()]],
  MaskedUViT: [() => [maskdmSizes, init()]],
  PreconditionedMaskDiT: [() => [maskDiTSizes, init(), 0.25]],
  UViTAttention: [() => [{ hiddenSize: 4, numHeads: 2, qkvBias: true }, init()]],
  UViTBlock: [() => [{ hiddenSize: 4, numHeads: 2, mlpRatio: 1 }, init(), { skip: true }]],
  UViTEncoder: [() => [maskdmSizes, init()]],
}

const named = models as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(
  test,
  Object.fromEntries([
    ...Object.entries(functions).map(([name, [args, accepts]]) => [name, { call: named[name], args, accepts }]),
    ...Object.entries(classes).map(([name, [args, accepts]]) => [
      name,
      { call: constructing(named[name]), args, accepts },
    ]),
  ]),
)

/** An abstract class, and readers of config.json and of shapes, whose errors name the place in the file. */
const unchecked = new Set(['MaskedDiffusionTransformer', 'autoencoderOptions', 'autoencoderOptionsOfShapes'])

test('every public function and class has a right call', () => {
  const missing = Object.entries(models)
    .filter(([, value]) => typeof value === 'function')
    .map(([name]) => name)
    .filter(name => !(name in functions || name in classes || unchecked.has(name)))
  assert.equal(missing, [])
})

test('pictures, labels and noise that do not go together are refused', () => {
  const inputs = () => models.sampleMaskDiTInputs(maskDiT, x(), labels(), 0.5, rng(0))
  const wrong: readonly [() => unknown, RegExp][] = [
    [
      () => models.sampleMDTInputs(mdt, x(), [0], rng(0)),
      /^sampleMDTInputs: expected a label for each of 2 pictures, got 1$/,
    ],
    [
      () => models.sampleMDTInputs(mdt, floats(2), null, rng(0)),
      /^sampleMDTInputs: expected pictures \[N, C, H, W\], got \[2\]$/,
    ],
    [
      () => models.maskDiTLoss(maskDiT, x(), { ...inputs(), noise: floats(1, 1, 4, 4) }),
      /^maskDiTLoss: expected noise of the shape of x, \[2, 1, 4, 4\], got \[1, 1, 4, 4\]$/,
    ],
    [
      () => models.maskDiTLoss(maskDiT, x(), { ...inputs(), sigma: Float64Array.of(1) }),
      /^maskDiTLoss: expected a sigma for each of 2 pictures, got 1$/,
    ],
    [
      () => new models.DiagonalGaussian(floats(1, 3, 2, 2)),
      /^DiagonalGaussian: expected moments \[N, 2·C, h, w\], got \[1, 3, 2, 2\]$/,
    ],
  ]
  for (const [run, says] of wrong) assert.throws(run, says)
})

test('every family refuses options that its model does not have', () => {
  for (const family of models.families) {
    const options = family.options(family.defaultPreset(16), { inputSize: 16, inChannels: 3, numClasses: 2 })
    const wrong = () => family.make({ ...options, unknownOption: 1 } as typeof options, { rng: null, backend: shapes })
    assert.throws(wrong, /^\w+: expected options among inputSize, .*, got 'unknownOption'$/, family.name)
  }
})

test.run()
