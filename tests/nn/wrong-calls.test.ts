/**
 * Constructors and functions answer wrong calls in one line that begins with their name. A class or function that has no
 * right call here fails the test.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng } from '../../core/index.ts'
import * as nn from '../../nn/index.ts'
import { constructing, floats, type RightCall, testCalls } from '../core/wrong-calls.ts'

const init = () => ({ rng: rng(0), dtype: 'f32', backend: cpu })
const parameters = () => [['w', floats(2).requireGrad()]]
const weight = nn.constantZero
const model = () => new nn.Linear(2, 2, { rng: null, backend: cpu })
const ids = () => [0, 1, 2, 3]

/** Arguments of a right constructor call, and the wrong ones that are right. */
const calls: Record<string, readonly [args: () => readonly unknown[], accepts?: readonly string[]]> = {
  Activation: [() => [(x: unknown) => x]],
  Attention: [() => [4, 2, init(), { grid: [2, 2], weight }]],
  BatchNorm: [() => [3, init(), { eps: 0.5, momentum: 0.5, affine: true, countsBatches: true }]],
  Conv1d: [() => [2, 3, 3, init(), { stride: 1, padding: 1, weight, bias: weight }]],
  Dropout: [() => [0.5]],
  MultiHeadAttention: [() => [4, 2, init(), { bias: true, kdim: 4, vdim: 4 }]],
  RMSNorm: [() => [3, init(), { eps: 0.5, affine: true }]],
  Conv2d: [() => [2, 3, 3, init(), { stride: 1, padding: 1, weight, bias: weight }]],
  Embedding: [() => [5, 3, init(), weight], ['3 undefined']],
  GroupNorm: [() => [2, 4, init(), { eps: 0.5 }]],
  LabelEmbedder: [() => [5, 3, 0.5, init()]],
  LayerNorm: [() => [3, init(), { eps: 0.5, affine: true }]],
  Linear: [() => [2, 3, init(), { weight, bias: weight }]],
  Mlp: [() => [2, 3, init(), { activation: (x: unknown) => x, weight }]],
  Modulation: [() => [2, 3, 2, init()]],
  PatchEmbed: [() => [2, 3, 4, init(), { weight, bias: weight }]],
  RelativePositionBias: [() => [[2, 2], 2, init()]],
  TimestepEmbedder: [() => [4, init(), 8]],
}

/** Classes that take other modules, or parameters. */
const more: typeof calls = {
  Adam: [() => [parameters(), { lr: 0.5, betas: [0.5, 0.5], eps: 0.5, amsgrad: true, maximize: true }]],
  AdamW: [
    () => [parameters(), { lr: 0.5, betas: [0.5, 0.5], eps: 0.5, weightDecay: 0.5, amsgrad: true, maximize: true }],
  ],
  Adan: [() => [parameters(), { lr: 0.5, betas: [0.5, 0.5, 0.5], eps: 0.5, weightDecay: 0.5, decay: 'after' }]],
  Ema: [() => [model(), model(), { decay: () => 0.5, skipFrozen: true }]],
  ModuleList: [() => [[model()]]],
  Sequential: [() => [[model()]]],
  Sgd: [
    () => [parameters(), { lr: 0.5, momentum: 0.5, dampening: 0, nesterov: true, weightDecay: 0.5, maximize: true }],
  ],
}

const schedule = () => 0.5

/** Arguments of a right call of a function, and the wrong ones that are right. */
const functions: typeof calls = {
  buffer: [() => [floats(2)]],
  checkpointBlocks: [() => [model()]],
  clipGradNorm: [() => [[floats(2)], 0.5, { normType: 1.5 }]],
  constant: [() => [0.5]],
  constantDecay: [() => [0.5]],
  constantOne: [() => [[2, 3], init()]],
  constantZero: [() => [[2, 3], init()]],
  cosine: [() => [0.5, 10, 0.25], ['1 fraction', '1 NaN']],
  dropLabels: [() => [[1, 2], [0.25, 0.75], 0.5, 10], ['1 ofNaN']],
  freezeParameters: [() => [model(), ['weight']]],
  frozen: [() => [floats(2)]],
  given: [() => [[1, 2]], ['0 ofNaN']],
  gradNorm: [() => [[floats(2)]]],
  keptPairs: [() => [ids(), [2, 2], [2, 2], floats(1)]],
  linearAnneal: [() => [0.5, 10], ['1 fraction', '1 NaN']],
  normal: [() => [0.5]],
  optimizerOf: [() => [parameters(), { optimizer: 'adamw', lr: 0.5, weightDecay: 0.5, betas: [0.5, 0.5] }]],
  parameter: [() => [floats(2)]],
  powerDecay: [() => [0.5, 100], ['1 fraction', '1 NaN']],
  rampUp: [() => [16, 10, schedule], ['0 fraction', '0 NaN', '1 fraction', '1 NaN']],
  relativePositions: [() => [ids(), 2, [2, 2]]],
  scheduleOf: [() => ['cosine', 0.5, 10], ['2 fraction', '2 NaN']],
  sinCos1d: [() => [4, 3]],
  sinCos2d: [() => [4, [2, 2], 1]],
  stepDecay: [() => [0.5, 10], ['1 fraction', '1 NaN']],
  timestepEmbedding: [() => [[1, 2], 4], ['0 ofNaN']],
  uniform: [() => [0.5]],
  unpatchify: [() => [floats(1, 4, 4), 2, [4, 4]]],
  warmUp: [() => [10, schedule], ['0 fraction', '0 NaN']],
  warmUpDecay: [() => [0.5]],
  withLayerNames: [() => [model(), () => 1]],
  xavierUniform: [() => [[2, 3], init()]],
  zeroGrad: [() => [[floats(2)]]],
}

const named = nn as unknown as Readonly<Record<string, RightCall['call']>>

const rightCalls = (rows: typeof calls, callOf: (name: string) => RightCall['call']) =>
  Object.entries(rows).map(([name, [args, accepts]]): [string, RightCall] => [
    name,
    { call: callOf(name), args, accepts },
  ])

testCalls(
  test,
  Object.fromEntries([
    ...rightCalls({ ...calls, ...more }, name => constructing(named[name] as RightCall['call'])),
    ...rightCalls(functions, name => named[name]),
  ]),
)

/** Abstract classes. */
const unchecked = new Set(['Layer', 'Module', 'Optimizer'])

test('every layer, optimizer and function has a right call', () => {
  const missing = Object.entries(nn)
    .filter(([, value]) => typeof value === 'function')
    .map(([name]) => name)
    .filter(name => !(name in calls || name in more || name in functions || unchecked.has(name)))
  assert.equal(missing, [])
})

/** A call of a method, by the name that its errors begin with. */
const methods: Record<string, RightCall> = {
  'Linear.to': { call: (backend: unknown) => model().to(backend as typeof cpu), args: () => [cpu] },
  loadStateDict: {
    call: (...args: unknown[]) => model().loadStateDict(...(args as Parameters<nn.Module['loadStateDict']>)),
    args: () => [model().stateDict(), { strict: true }],
  },
  AdamW: {
    call: (...args: unknown[]) => new nn.AdamW([['w', floats(2).requireGrad()]]).step(...(args as [nn.StepOptions])),
    args: () => [{ lr: 0.5, maxNorm: 0.5, losses: [floats()] }],
  },
}

testCalls(test, methods)

test('lists of the wrong length are refused', () => {
  assert.throws(
    () => nn.dropLabels([1, 2], [0.5], 0.5, 10),
    /^dropLabels: expected a number for each of 2 labels, got 1$/,
  )
  assert.throws(() => nn.gradNorm([]), /^gradNorm: expected at least one gradient, got none$/)
})

test.run()
