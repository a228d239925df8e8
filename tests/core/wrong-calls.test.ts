/**
 * Every public function of core answers wrong calls in one line that begins with its name. A function that has no right
 * call here fails the test.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import * as core from '../../core/index.ts'
import { cpu } from '../../core/index.ts'
import { badAnswers, floats, ints, type RightCall, testCalls } from './wrong-calls.ts'

const x = (...shape: number[]) => floats(...(shape.length > 0 ? shape : [2, 3]))

const unaries = (
  'abs copy cos erf exp floor gelu geluTanh isFinite log neg reciprocal relu rsqrt sigmoid sign silu sin sqrt square tanh ' +
  'transpose ceil expm1 isNaN log1p logicalNot round tan trunc onesLike zerosLike'
).split(' ')

const binaries =
  'add atan2 div equal greater greaterEqual less lessEqual logicalAnd logicalOr maximum minimum mul notEqual pow remainder sub'.split(
    ' ',
  )

const reductions = 'all any logsumexp max mean min prod sum'.split(' ')

/** Arguments of a right call, and the wrong ones that are right: where null, a number or a fraction is allowed. */
const calls: Record<string, readonly [args: () => readonly unknown[], accepts?: readonly string[]]> = {
  ...Object.fromEntries(unaries.map(name => [name, [() => [x()]]])),
  ...Object.fromEntries(binaries.map(name => [name, [() => [x(), x()], ['0 number', '1 number']]])),
  ...Object.fromEntries(reductions.map(name => [name, [() => [x(), [0, 1], true], ['1 arguments']]])),
  adaLayerNorm: [() => [x(2, 3, 4), x(2, 4), x(2, 4), 1e-6]],
  affine: [() => [x(), 0.5, 1.5]],
  argmax: [() => [x(), 1, true], ['1 arguments']],
  argmin: [() => [x(), 1, true], ['1 arguments']],
  argsort: [() => [x(), 1, { descending: true }]],
  arange: [() => [4, { dtype: 'f32', backend: cpu }]],
  attention: [
    () => [x(2, 4), x(3, 4), x(3, 4), x(2, 3), { mask: ints(2, 3), isCausal: true, scale: 0.5 }],
    ['3 null', '3 undefined'],
  ],
  avgPool2d: [() => [x(1, 1, 4, 4), 2, 2, 0]],
  binaryCrossEntropy: [() => [x(), x(), { weight: x(), reduction: 'sum' }]],
  binaryCrossEntropyWithLogits: [() => [x(), x(), { weight: x(), positiveWeight: x(3), reduction: 'none' }]],
  broadcastTo: [() => [x(2, 1), [2, 3]]],
  cast: [() => [x(), 'f32']],
  clamp: [() => [x(), { min: 0.25, max: x() }], ['2 arguments']],
  concat: [() => [[x(), x()], 0]],
  conv1d: [() => [x(1, 2, 4), x(3, 2, 3), x(3), { stride: 1, padding: 1 }], ['2 null', '2 undefined']],
  conv2d: [() => [x(1, 2, 4, 4), x(3, 2, 3, 3), x(3), { stride: 1, padding: 1 }], ['2 null', '2 undefined']],
  convTranspose2d: [() => [x(1, 2, 4, 4), x(2, 3, 3, 3), x(3), { stride: 1, padding: 1 }], ['2 null', '2 undefined']],
  crossEntropy: [() => [x(2, 3), ints(2), { weight: x(3), ignoreIndex: 1, labelSmoothing: 0.25, reduction: 'sum' }]],
  cumsum: [() => [x(), 1]],
  dropout: [() => [x(), 0.5, core.rng(0)]],
  einsum: [() => ['ij,kj->ik', x(), x()]],
  elu: [() => [x(), 0.5]],
  embedding: [() => [x(4, 3), ints(2)], ['1 shape']],
  eye: [() => [3, { dtype: 'f32', backend: cpu }]],
  flatten: [() => [x(), 0, 1]],
  flip: [() => [x(), [0, 1]]],
  fold: [() => [x(1, 4, 4), { kernel: [2, 2], stride: [1, 1], padding: [0, 0, 0, 0] }, [1, 1, 3, 3]]],
  full: [() => [[2, 3], 0.5, { dtype: 'f32', backend: cpu }]],
  fullLike: [() => [x(), 0.5]],
  gatedResidual: [() => [x(2, 3, 4), x(2, 4), x(2, 3, 4)]],
  gather: [() => [x(), 0, ints(2, 3)]],
  gatherRows: [() => [x(1, 4, 3), ints(1, 2)]],
  groupNorm: [() => [x(1, 4, 2, 2), 2, x(4), x(4), 1e-5]],
  index: [
    () => [x(2, 3, 4, 5), 1, { start: 0, end: 2, step: 1 }, ints(2), '...', null],
    ['0 shape', '1 null', '2 null', '3 shape', '3 null', '3 number', '4 null', '4 number', '5 number'],
  ],
  interpolate: [() => [x(1, 1, 2, 2), [4, 4], 'bilinear', { alignCorners: true }]],
  klDivergence: [() => [x(), x(), { logTarget: true, reduction: 'batchMean' }]],
  l1: [() => [x(), x(), { reduction: 'sum' }]],
  layerNorm: [() => [x(), x(3), x(3), 1e-5]],
  leakyRelu: [() => [x(), 0.5]],
  linear: [() => [x(), x(4, 3), x(4)], ['2 null', '2 undefined']],
  linspace: [() => [0.5, 2.5, 3, { dtype: 'f32', backend: cpu }]],
  logSoftmax: [() => [x(), 1]],
  matmul: [() => [x(2, 3), x(2, 3), { transposeA: false, transposeB: true }]],
  maxPool2d: [() => [x(1, 1, 4, 4), 2, 2, 0]],
  mse: [() => [x(), x(), { reduction: 'none' }]],
  multinomial: [() => [x(), 2, core.rng(0), { replacement: true }]],
  norm: [() => [x(), 1, { p: 2.5, keepDims: true }], ['1 array', '1 arguments']],
  oneHot: [() => [ints(2), 3, { dtype: 'f32' }]],
  ones: [() => [[2, 3], { dtype: 'f32', backend: cpu }]],
  pad: [() => [x(), [1, 0], [3, 4], 'replicate'], ['3 number']],
  patchify: [() => [x(1, 1, 4, 4), 2]],
  permute: [() => [x(), [1, 0]]],
  pick: [() => [x(2, 3), ints(2)]],
  repeat: [() => [x(), 2, 1]],
  reshape: [() => [x(), [3, 2]]],
  rmsNorm: [() => [x(), x(3), 0.5], ['1 null']],
  roll: [() => [x(), [1, 2], [0, 1]]],
  scatter: [() => [x(), 0, ints(2, 3), x(), { reduce: 'add' }], ['3 number']],
  scatterAdd: [() => [ints(1, 2), x(1, 2, 3), 4]],
  scatterRows: [() => [x(1, 4, 3), ints(1, 2), x(1, 2, 3)]],
  selfAttention: [() => [x(1, 2, 12), x(2, 2, 2), 2], ['1 null']],
  slice: [() => [x(), 1, 0, 2, 1], ['2 arguments', '3 arguments']],
  smoothL1: [() => [x(), x(), { beta: 0.5, reduction: 'sum' }]],
  softmax: [() => [x(), 1]],
  softplus: [() => [x(), 1.5]],
  sort: [() => [x(), 1, { descending: true }]],
  split: [() => [x(), 3, 1]],
  squeeze: [() => [x(2, 1), 1], ['1 array', '1 arguments']],
  stack: [() => [[x(), x()], 0]],
  std: [() => [x(), 1, { ddof: 1, keepDims: true }], ['1 array', '1 arguments']],
  sumOfSquares: [() => [[x(), x()]]],
  sumTo: [() => [x(), [2, 1]]],
  tensor: [() => [[1, 2], { shape: [2], dtype: 'f32', backend: cpu }], ['0 ofNaN']],
  tile: [() => [x(), [2, 1]]],
  to: [() => [x(), { backend: cpu, dtype: 'f64' }]],
  topk: [() => [x(), 2, 1, { largest: false }]],
  tril: [() => [x(), 1]],
  triu: [() => [x(), 1]],
  unfold: [() => [x(1, 1, 4, 4), { kernel: [2, 2], stride: [1, 1], padding: [0, 0, 0, 0] }]],
  unsqueeze: [() => [x(), 0]],
  variance: [() => [x(), 0, { ddof: 1, keepDims: true }], ['1 array', '1 arguments']],
  where: [() => [x(), x(), x()], ['0 f64', '1 number', '2 number']],
  zeros: [() => [[2, 3], { dtype: 'f32', backend: cpu }]],
}

const fn = () => x()
const scalar = () => floats(1)
const rows = (...names: string[]) => [Object.fromEntries(names.map(name => [name, x()]))]
const moments = { lr: 0.5, eps: 0.5, weightDecay: 0.5, maximize: false, decay: 'after' }

/** Functions that take functions, or write in place. */
const more: typeof calls = {
  adamW: [
    () => [
      rows('p', 'g', 'm', 'v'),
      { clip: scalar(), correction1: scalar(), correction2: scalar() },
      { ...moments, betas: [0.5, 0.5] },
      scalar(),
    ],
    ['3 null', '3 undefined', '3 arguments', '2.maximize', '2.decay'],
  ],
  adan: [
    () => [
      [{ ...rows('p', 'g', 'm', 'd', 'v', 'before')[0], started: scalar() }],
      { clip: scalar(), correction1: scalar(), correction2: scalar(), correction3: scalar() },
      { ...moments, betas: [0.5, 0.5, 0.5] },
      scalar(),
    ],
    ['3 null', '3 undefined', '3 arguments', '2.maximize', '2.decay'],
  ],
  assign: [() => [[x()], [x()], scalar()], ['2 null', '2 undefined', '2 arguments']],
  backward: [() => [core.sum(core.square(x(3).requireGrad())), floats()], ['1 undefined', '1 arguments']],
  checkpoint: [() => [fn, [x()], core.rng(0)], ['2 arguments']],
  customOp: [() => [{ name: 'identity', forward: (t: unknown) => t, backward: (g: unknown) => [g] }], ['0.name']],
  enableGrad: [() => [fn]],
  firstNonFinite: [() => [fn]],
  grad: [() => [fn, { createGraph: true }]],
  gradients: [() => [x(), [x()], { createGraph: true, cotangent: x() }]],
  hessianVectorProduct: [() => [core.sum, [x()], [x()]]],
  jvp: [() => [core.square, [x()], [x()]]],
  labelled: [() => ['text', fn], ['0 string', '0 null']],
  lerp: [() => [[x()], [x()], 0.5, scalar()], ['3 null', '3 undefined', '3 arguments']],
  noGrad: [() => [fn]],
  observe: [() => [fn, fn]],
  profile: [() => [fn]],
  ready: [() => [{ backend: 'cpu', threads: 1 }]],
  rng: [() => [1]],
  scope: [() => [fn]],
  setDefaultBackend: [() => [cpu]],
  sgd: [
    () => [
      rows('p', 'g', 'b'),
      { clip: scalar() },
      { ...moments, momentum: 0.5, dampening: 0.5, nesterov: false },
      scalar(),
    ],
    ['3 null', '3 undefined', '3 arguments', '2.maximize', '2.decay'],
  ],
  valueAndGrad: [() => [core.sum, { createGraph: true }]],
  vjp: [() => [core.square, [x()], x()]],
}

/** Functions whose arguments are records of ops. */
const unchecked = new Set('apply applyMany defineManyOp defineOp defineUpdate update'.split(' '))

const named = core as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(
  test,
  Object.fromEntries(
    Object.entries({ ...calls, ...more }).map(([name, [args, accepts]]) => [
      name,
      { call: named[name], args, accepts },
    ]),
  ),
)

test('every public function has a right call', () => {
  const isClass = (f: unknown) => /^class\b/.test(String(f))
  const functions = Object.entries(core).filter(([, f]) => typeof f === 'function' && !isClass(f) && f.length > 0)
  const missing = functions
    .map(([name]) => name)
    .filter(name => !(name in calls || name in more || unchecked.has(name)))
  assert.equal(missing, [])
})

test('values that fit no result are named by the function that was called, in the stack too', () => {
  const stackOf = (run: () => unknown) => {
    try {
      run()
    } catch (error) {
      return String((error as Error).stack)
    }
    return 'no error'
  }
  const beyond = core.tensor([7], { dtype: 'i32', backend: cpu })
  const wrong: readonly [() => unknown, RegExp][] = [
    [() => core.oneHot(x(2), 3), /^Error: oneHot: expected ids in i32, got f32\n/],
    [() => core.oneHot(beyond, 3), /^RangeError: oneHot: expected indices in \[0, 3\), got 7 at \[0, 0\]\n/],
    [() => core.index(x(2, 3), beyond), /^RangeError: index: expected indices in \[0, 2\), got 7 at \[0, 0\]\n/],
    [() => core.embedding(x(2, 3), beyond), /^RangeError: embedding: expected indices in \[0, 2\), got 7/],
    [() => core.eye(-1), /^ShapeError: eye: expected sizes that are integers from 0, got \[-1\]\n/],
  ]
  for (const [run, says] of wrong) assert.match(stackOf(run), says)
})

/** Methods, by the name that their errors begin with. */
const methods: Record<string, RightCall> = {
  integers: {
    call: (...args: unknown[]) => core.rng(0).integers(...(args as Parameters<core.Rng['integers']>)),
    args: () => [0, 3, [2], { dtype: 'i32', backend: cpu }],
  },
  moveTo: { call: (backend: unknown) => x(2).moveTo(backend as typeof cpu), args: () => [cpu] },
  normal: {
    call: (...args: unknown[]) => core.rng(0).normal(...(args as Parameters<core.Rng['normal']>)),
    args: () => [[2], { dtype: 'f32', backend: cpu }],
  },
  permutation: {
    call: (...args: unknown[]) => core.rng(0).permutation(...(args as Parameters<core.Rng['permutation']>)),
    args: () => [3, { dtype: 'i32', backend: cpu }],
  },
  registerHook: {
    call: (hook: unknown) =>
      x(2)
        .requireGrad()
        .registerHook(hook as core.GradientHook),
    args: () => [() => undefined],
  },
  replaceWith: { call: (source: unknown) => x(2).replaceWith(source as core.Tensor), args: () => [x(2)] },
  requireGrad: { call: (...args: unknown[]) => x(2).requireGrad(...(args as [boolean])), args: () => [true] },
  uniform: {
    call: (...args: unknown[]) => core.rng(0).uniform(...(args as Parameters<core.Rng['uniform']>)),
    args: () => [[2], { dtype: 'f32', backend: cpu }],
  },
}

testCalls(test, methods)

test('a silent call, another name and a message of the engine are found', async () => {
  const answers = async (call: RightCall['call']) => (await badAnswers('f', { call, args: () => [x()] })).length
  assert.is(await answers((_: unknown) => 0), 8)
  const fail = (message: string) => (_: unknown) => {
    throw new Error(message)
  }
  assert.is(await answers(fail('g: expected x to be a tensor')), 8)
  assert.is(await answers(fail('f: Cannot read properties of undefined')), 8)
  assert.is(await answers(fail('f: expected x to be a tensor')), 0)
})

test.run()
