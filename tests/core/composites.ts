/**
 * Functions that are made of ops, as records that the walk over all ops takes: samples, and what they are to be tested for. A
 * record's decomposition is the function itself. Used by composites.test.ts and webgpu/registry.test.ts.
 */

import {
  affine,
  all,
  any,
  argmax,
  argmin,
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  cast,
  ceil,
  conv1d,
  dropout,
  einsum,
  elu,
  flatten,
  flip,
  greater,
  greaterEqual,
  index,
  isNaN as isNan,
  klDivergence,
  leakyRelu,
  logicalAnd,
  logicalNot,
  logicalOr,
  logSoftmax,
  logsumexp,
  mul,
  multinomial,
  norm,
  notEqual,
  oneHot,
  prod,
  repeat,
  rmsNorm,
  rng,
  roll,
  type Shape,
  sigmoid,
  softmax,
  sort,
  squeeze,
  std,
  type Tensor,
  tan,
  tensor,
  tile,
  topk,
  tril,
  triu,
  trunc,
} from '../../core/index.ts'
import type { AnyOp, Op, Sample } from '../../core/op.ts'
import type { Sampler } from '../../core/samples.ts'

type Run = (...x: Tensor[]) => Tensor
interface Attrs {
  readonly run: Run
}
type Composite = Op<readonly Tensor[], Attrs, readonly Tensor[]>

/** Properties that differ between functions. */
interface Nature {
  readonly differentiable?: 'none' | 'once'
  readonly integers?: true
}

function composite(
  name: string,
  samples: (r: Sampler) => readonly (readonly [Run, ...Tensor[]])[],
  { differentiable, integers }: Nature = {},
): AnyOp {
  const op: Composite = {
    name,
    differentiable,
    integers,
    infer: () => [],
    forward: () => undefined,
    decompose: (x, { run }) => run(...x),
    samples: r => samples(r).map(([run, ...x]): Sample<readonly Tensor[], Attrs> => ({ x, attrs: { run } })),
  }
  return op as unknown as AnyOp
}

const shapes: readonly Shape[] = [[3, 1, 5], [1031], []]
const unary =
  (run: Run, make: 'distinct' | 'positive' | 'plain' = 'plain') =>
  (r: Sampler) =>
    shapes.map(shape => [run, make === 'plain' ? r(...shape) : r[make](...shape)] as const)
const logic: Nature = { differentiable: 'none', integers: true }
const moves: Nature = { integers: true }

/** Values that f32 can hold. */
const single = (x: Tensor) => cast(cast(x, 'f32'), 'f64')

/** Indices beside x. */
const ids = ({ backend }: Tensor, values: readonly number[], shape: Shape = [values.length]) =>
  tensor(values, { shape, dtype: 'i32', backend })

/** Runs over axes. */
const reductions =
  (run: (x: Tensor, axes?: readonly number[], keepDims?: boolean) => Tensor, make: (r: Sampler) => Sampler | Run2) =>
  (r: Sampler) => {
    const made = make(r)
    return [
      [(x: Tensor) => run(x, [0]), made(3, 1, 5)] as const,
      [(x: Tensor) => run(x, [-1, 0], true), made(3, 4, 5)] as const,
      [(x: Tensor) => run(x), made(3, 7)] as const,
      [(x: Tensor) => run(x, [1]), made(2, 1031)] as const,
      [(x: Tensor) => run(x, [], true), made(3, 1)] as const,
    ]
  }
type Run2 = (...shape: number[]) => Tensor

/** Probabilities away from 0 and 1. */
const probabilities = (r: Sampler, ...shape: number[]) => single(sigmoid(r(...shape)))

export const composites: readonly AnyOp[] = [
  composite(
    'greater',
    r => [
      [greater, r.distinct(3, 1, 5), r.distinct(3, 7, 5)],
      [x => greater(x, 1), r.distinct(1031)],
      [x => greater(-1, x), r.distinct(7)],
    ],
    logic,
  ),
  composite(
    'greaterEqual',
    r => [
      [greaterEqual, r.distinct(3, 1, 5), r.distinct(3, 7, 5)],
      [x => greaterEqual(x, x), r.distinct(1031)],
      [x => greaterEqual(-1, x), r.distinct(7)],
    ],
    logic,
  ),
  composite(
    'notEqual',
    r => [
      [notEqual, r.distinct(3, 1, 5), r.distinct(3, 7, 5)],
      [x => notEqual(x, x), r.distinct(1031)],
      [x => notEqual(1, x), r.distinct(7)],
    ],
    logic,
  ),
  composite('isNaN', unary(isNan), logic),
  composite(
    'logicalAnd',
    r => [[logicalAnd, cast(r.indices(2, 3, 1, 5), 'f64'), cast(r.indices(2, 7, 5), 'f64')]],
    logic,
  ),
  composite(
    'logicalOr',
    r => [[logicalOr, cast(r.indices(2, 3, 1, 5), 'f64'), cast(r.indices(2, 7, 5), 'f64')]],
    logic,
  ),
  composite('logicalNot', r => [[logicalNot, cast(r.indices(3, 1031), 'f64')]], logic),
  composite('ceil', unary(ceil, 'distinct'), logic),
  composite('trunc', unary(trunc, 'distinct'), logic),
  composite('tan', r => shapes.map(shape => [tan, mul(r(...shape), 0.5)])),

  composite(
    'std',
    reductions(
      (x, axes, keepDims) => (axes?.length === 0 ? std(x, [], { keepDims }) : std(x, axes, { ddof: 1, keepDims })),
      r => r,
    ),
  ),
  composite('norm', r => [
    [x => norm(x), r(3, 1, 5)],
    [x => norm(x, [1]), r(2, 1031)],
    [x => norm(x, [-1, 0], { p: 3, keepDims: true }), r.distinct(3, 4, 5)],
    [x => norm(x, 0, { p: 1.5 }), r.distinct(5, 3)],
    [x => norm(x, 1, { p: -2 }), r.positive(3, 5)],
  ]),
  composite(
    'norm',
    r => [
      [x => norm(x, 1, { p: 1 }), r.distinct(3, 5)],
      [x => norm(x, 0, { p: Infinity }), r.distinct(5, 3)],
      [x => norm(x, 1, { p: -Infinity }), r.distinct(1, 7)],
    ],
    { differentiable: 'once' },
  ),
  composite('norm', r => [[x => norm(x, 1, { p: 0 }), r.distinct(3, 5)]], { differentiable: 'none' }),
  composite(
    'logsumexp',
    reductions(logsumexp, r => r),
  ),
  composite(
    'prod',
    reductions(
      prod,
      r =>
        (...shape: number[]) =>
          single(affine(r(...shape), 2 ** -6, 1)),
    ),
  ),
  // Whole numbers whose products stay exact.
  composite('prod', r => [[x => prod(x, 1), mul(r.distinct(3, 3), 0.5)]], moves),
  composite(
    'any',
    reductions(any, r => r.distinct),
    logic,
  ),
  composite(
    'all',
    reductions(all, r => r.distinct),
    logic,
  ),
  composite(
    'argmax',
    r => [
      [x => argmax(x, 1), r.distinct(3, 7, 5)],
      [x => argmax(x, -1, true), r.distinct(2, 1031)],
      [x => argmax(x), r.distinct(3, 1, 5)],
    ],
    logic,
  ),
  composite(
    'argmin',
    r => [
      [x => argmin(x, 0), r.distinct(3, 7, 5)],
      [x => argmin(x, -1, true), r.distinct(2, 1031)],
      [x => argmin(x, undefined, true), r.distinct(3, 1, 5)],
    ],
    logic,
  ),
  composite(
    'sort',
    r => [
      [x => sort(x).values, r.distinct(3, 1, 5)],
      [x => sort(x, 0, { descending: true }).values, r.distinct(1031, 2)],
      [x => sort(x, 1).values, r.distinct(2, 7, 3)],
    ],
    moves,
  ),
  composite(
    'topk',
    r => [
      [x => topk(x, 2).values, r.distinct(3, 1, 5)],
      [x => topk(x, 7, 0).values, r.distinct(1031, 2)],
      [x => topk(x, 3, 1, { largest: false }).values, r.distinct(2, 7, 3)],
    ],
    moves,
  ),
  composite('topk', r => [[x => topk(x, 3, 1).indices, r.distinct(2, 7, 3)]], logic),

  composite(
    'squeeze',
    r => [
      [x => squeeze(x), r(3, 1, 5, 1)],
      [x => squeeze(x, 1), r(3, 1, 5, 1)],
      [x => squeeze(x, [1, -1]), r(1, 1, 1031, 1)],
    ],
    moves,
  ),
  composite(
    'flatten',
    r => [
      [x => flatten(x), r(3, 1, 5)],
      [x => flatten(x, 1), r(2, 3, 1031)],
      [x => flatten(x, 0, -2), r(2, 3, 5)],
      [x => flatten(x), r()],
    ],
    moves,
  ),
  composite(
    'flip',
    r => [
      [x => flip(x, 0), r(3, 1, 5)],
      [x => flip(x, [0, -1]), r(3, 2, 5)],
      [x => flip(x, 0), r(1031)],
    ],
    moves,
  ),
  composite(
    'roll',
    r => [
      [x => roll(x, 2, 0), r(3, 1, 5)],
      [x => roll(x, [-1, 7], [0, -1]), r(3, 2, 5)],
      [x => roll(x, -1000), r(2, 1031)],
    ],
    moves,
  ),
  composite(
    'tile',
    r => [
      [x => tile(x, 3), r(3, 1, 5)],
      [x => tile(x, [2, 3, 1, 2]), r(3, 5)],
      [x => tile(x, [3]), r(2, 3, 7)],
    ],
    moves,
  ),
  composite(
    'repeat',
    r => [
      [x => repeat(x, 3, 0), r(3, 1, 5)],
      [x => repeat(x, 2, -1), r(3, 5)],
      [x => repeat(x, 1031, 0), r(1)],
    ],
    moves,
  ),
  composite(
    'tril',
    r => [
      [x => tril(x), r(3, 5, 5)],
      [x => tril(x, -1), r(5, 1)],
      [x => tril(x, 2), r(7, 31)],
    ],
    moves,
  ),
  composite(
    'triu',
    r => [
      [x => triu(x), r(3, 5, 5)],
      [x => triu(x, -1), r(5, 1)],
      [x => triu(x, 2), r(7, 31)],
    ],
    moves,
  ),
  composite(
    'einsum',
    r => [
      [(a, b) => einsum('bij,bjk->bik', a, b), r(2, 3, 5), r(2, 5, 7)],
      [(a, b) => einsum('ij, kj', a, b), r(3, 5), r(7, 5)],
      [(a, b) => einsum('ji,jk->ki', a, b), r(5, 3), r(5, 7)],
      [a => einsum('ii->i', a), r(5, 5)],
      [a => einsum('iijj', a), r(3, 3, 2, 2)],
      [a => einsum('...ij->...ji', a), r(2, 3, 5)],
      [a => einsum('b...->b', a), r(3, 1, 5)],
      [(a, b) => einsum('...i,...i', a, b), r(3, 1, 5), r(7, 5)],
      [(a, b) => einsum('i,j->ij', a, b), r(3), r(1031)],
      [(a, b) => einsum('bhtd,bshd->bhts', a, b), r(2, 3, 5, 4), r(2, 7, 3, 4)],
      [(a, b, c) => einsum('ij,jk,kl->li', a, b, c), r(3, 5), r(5, 2), r(2, 7)],
      [(a, b) => einsum('abc,cd->d', a, b), r(2, 3, 5), r(5, 7)],
      [(a, b) => einsum('i,i->', a, b), r(1031), r(1)],
    ],
    moves,
  ),
  composite(
    'index',
    r => [
      [x => index(x, 1, '...', { start: 1, end: -1 }), r(3, 2, 5)],
      [x => index(x, null, ':', -1, null), r(3, 1, 5)],
      [x => index(x, { start: 5, step: 100 }), r(1031)],
      [x => index(x, ids(x, [4, 0, -1, 4, 2, 2], [2, 3])), r(5, 3)],
      [x => index(x, ':', ids(x, [4, 0, -5, 1]), ids(x, [2, -1], [2, 1])), r(2, 5, 3)],
      [x => index(x, ids(x, [4, 0, 0]), ':', ids(x, [2, 0, 0])), r(5, 2, 3)],
      [x => index(x, 0, ':', ids(x, [4, 4, 1])), r(2, 3, 5)],
    ],
    moves,
  ),

  composite(
    'leakyRelu',
    unary(x => leakyRelu(x), 'distinct'),
    { differentiable: 'once' },
  ),
  composite(
    'elu',
    unary(x => elu(x, 1.5), 'distinct'),
    { differentiable: 'once' },
  ),
  composite('rmsNorm', r => [
    [(x, w) => rmsNorm(x, w, 1e-5), r(2, 3, 5), r(5)],
    [x => rmsNorm(x, null, 1e-6), r(2, 1031)],
    [x => rmsNorm(x, null, 1e-6), r(3, 1)],
  ]),
  composite('dropout', r => [
    [x => dropout(x, 0.3, rng(5)), r(3, 1, 5)],
    [x => dropout(x, 0.5, rng(5)), r(1031)],
    [x => dropout(x, 1, rng(5)), r(7)],
  ]),
  composite(
    'conv1d',
    r => [
      [(x, w, b) => conv1d(x, w, b, { padding: 1 }), r(2, 3, 7), r(5, 3, 3), r(5)],
      [(x, w) => conv1d(x, w, null, { stride: 2, padding: [0, 1] }), r(1, 2, 9), r(3, 2, 4)],
      [(x, w) => conv1d(x, w), r(1, 1, 1031), r(1, 1, 1)],
    ],
    moves,
  ),
  composite('binaryCrossEntropy', r => [
    [(p, t) => binaryCrossEntropy(p, t), probabilities(r, 3, 1, 5), probabilities(r, 3, 1, 5)],
    [
      (p, t, weight) => binaryCrossEntropy(p, t, { weight, reduction: 'none' }),
      probabilities(r, 3, 5),
      probabilities(r, 3, 5),
      r(5),
    ],
    [(p, t) => binaryCrossEntropy(p, t, { reduction: 'sum' }), probabilities(r, 1031), probabilities(r, 1031)],
  ]),
  composite('binaryCrossEntropyWithLogits', r => [
    [(x, t) => binaryCrossEntropyWithLogits(x, t), r(3, 1, 5), probabilities(r, 3, 1, 5)],
    [
      (x, t, weight, positiveWeight) =>
        binaryCrossEntropyWithLogits(x, t, { weight, positiveWeight, reduction: 'none' }),
      r(3, 5),
      probabilities(r, 3, 5),
      r(5),
      r.positive(3, 1),
    ],
    [(x, t) => binaryCrossEntropyWithLogits(x, t, { reduction: 'sum' }), r(1031), probabilities(r, 1031)],
  ]),
  composite('klDivergence', r => [
    [(x, t) => klDivergence(x, t), single(logSoftmax(r(3, 1, 5))), single(softmax(r(3, 1, 5)))],
    [(x, t) => klDivergence(x, t, { reduction: 'batchMean' }), single(logSoftmax(r(3, 5))), single(softmax(r(3, 5)))],
    [(x, t) => klDivergence(x, t, { logTarget: true, reduction: 'none' }), r(3, 5), r(3, 5)],
    [(x, t) => klDivergence(x, t, { reduction: 'sum' }), r(1031), r.positive(1031)],
  ]),
  composite('oneHot', r => [[ids => oneHot(ids, 7), r.indices(7, 3, 5)]], { integers: true }),
  composite(
    'multinomial',
    r => [
      [w => multinomial(w, 3, rng(2)), r.positive(3, 1, 5)],
      [w => multinomial(w, 7, rng(2), { replacement: true }), r.positive(2, 5)],
      [w => multinomial(w, 1, rng(2)), r.positive(1031)],
    ],
    { differentiable: 'none' },
  ),
]
