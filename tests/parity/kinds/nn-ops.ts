/**
 * Fixtures of single ops: `in.<op>.<argument>`, `out.<op>.y`, a cotangent `in.<op>.dy` and `grad.<op>.<argument>`. The
 * first part of an op's name says which op it is; strides, groups, eps and the like are read from the name and from the
 * description of its result.
 */

import {
  add,
  attention,
  avgPool2d,
  conv2d,
  convTranspose2d,
  crossEntropy,
  embedding,
  gatherRows,
  gelu,
  geluTanh,
  gradients,
  groupNorm,
  interpolate,
  l1,
  layerNorm,
  linear,
  logSoftmax,
  matmul,
  maxPool2d,
  mse,
  mul,
  pad,
  relu,
  reshape,
  rsqrt,
  type Shape,
  scatterAdd,
  scatterRows,
  sigmoid,
  silu,
  smoothL1,
  softmax,
  softplus,
  sub,
  type Tensor,
  tanh,
  tensor,
  variance,
} from '../../../core/index.ts'
import { describe, numberAfter } from '../description.ts'
import type { Fixture, Run } from '../fixture.ts'
import { once, type Results } from '../kind.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const results: Results = new Map()
  for (const key of fixture.names('out.')) {
    const [op, result, ...rest] = key.split('.')
    const evaluate = opNamed(op)
    if (evaluate === undefined || result !== 'y' || rest.length > 0) continue
    const names = fixture.names(`in.${op}.`).filter(name => name !== 'dy')
    const text = `${op.replaceAll('_', ' ')} ${describe(fixture, `out.${key}`)}`
    const { shape } = fixture.tensors.get(`out.${key}`)!
    const inputs = once(() =>
      Object.fromEntries(
        names.map(name => {
          const x = fixture.tensor(`in.${op}.${name}`, run)
          return [name, x.dtype === 'i32' ? x : x.requireGrad()]
        }),
      ),
    )
    const y = once(() => reshape(evaluate(inputs(), text, shape), shape))
    const trained = fixture.names(`grad.${op}.`).filter(name => names.includes(name))
    const gs = once(() => {
      const wanted = trained.map(name => inputs()[name])
      return gradients(y(), wanted, { cotangent: fixture.tensor(`in.${op}.dy`, run) })
    })
    results.set(`out.${key}`, y)
    for (const [i, name] of trained.entries()) results.set(`grad.${op}.${name}`, () => gs()[i])
  }
  return results
}

type Inputs = Readonly<Record<string, Tensor>>

/** An op on the fixture's arguments; `text` is its name and description, `shape` that of its stored result. */
type Evaluate = (inputs: Inputs, text: string, shape: Shape) => Tensor

/** The longest name in the table that `op` begins with. */
function opNamed(op: string): Evaluate | undefined {
  const fits = Object.keys(ops).filter(name => op === name || op.startsWith(`${name}_`) || /^\d+$/.test(tail(op, name)))
  return ops[fits.sort((a, b) => b.length - a.length)[0]]
}

function tail(op: string, name: string): string {
  return op.startsWith(name) ? op.slice(name.length) : ''
}

/** A setting that the description must name. */
function setting(text: string, label: string): number {
  const value = numberAfter(text, label)
  if (value === undefined) throw new Error(`expected a number after '${label}' in the description, got '${text}'`)
  return value
}

const ops: Readonly<Record<string, Evaluate>> = {
  conv: ({ x, w, b }, text) => {
    // 'pad right/bottom by 1 then k3 s2 p0': zero padding on two sides.
    const before = /pad right\/bottom by (\d+)/.exec(text)
    const p = numberAfter(text, 'p') ?? 0
    const padding = before === null ? p : ([0, Number(before[1]), 0, Number(before[1])] as const)
    return conv2d(x, w, b ?? null, { stride: numberAfter(text, 's') ?? 1, padding })
  },
  conv_t: ({ x, w, b }, text) =>
    convTranspose2d(x, w, b ?? null, { stride: setting(text, 's'), padding: setting(text, 'p') }),
  group_norm: ({ x, w, b }, text) => {
    const groups = /(\d+) groups/.exec(text)
    return groupNorm(x, Number(groups![1]), w, b, setting(text, 'eps'))
  },
  layer_norm: ({ x, w, b }, text) => layerNorm(x, w ?? null, b ?? null, setting(text, 'eps')),
  batch_norm_eval: ({ x, w, b, m, v }, text) => {
    // The running mean and variance are buffers: no gradient reaches them.
    const perChannel = (t: Tensor) => reshape(t, [t.size, 1, 1])
    const deviation = perChannel(rsqrt(add(v.detach(), setting(text, 'eps'))))
    const normal = mul(sub(x, perChannel(m.detach())), deviation)
    return add(mul(normal, perChannel(w)), perChannel(b))
  },
  gelu_exact: ({ x }) => gelu(x),
  gelu_tanh: ({ x }) => geluTanh(x),
  silu: ({ x }) => silu(x),
  sigmoid: ({ x }) => sigmoid(x),
  tanh: ({ x }) => tanh(x),
  softplus: ({ x }) => softplus(x),
  relu: ({ x }) => relu(x),
  softmax: ({ x }, text) => softmax(x, numberAfter(text, 'dim')),
  log_softmax: ({ x }, text) => logSoftmax(x, numberAfter(text, 'dim')),
  cross_entropy: ({ x, target }, text) =>
    crossEntropy(x, target, { labelSmoothing: numberAfter(text, 'label_smoothing') }),
  sdpa: ({ q, k, v, bias }) => attention(q, k, v, bias ?? null),
  gather: ({ x, index }) => gatherRows(x, index),
  scatter_add: ({ x, index, src }) => add(x, scatterAdd(index, src, x.shape[1])),
  scatter: ({ x, index, src }) => scatterRows(x, index, src),
  embedding: ({ w, index }) => embedding(w, index),
  interp_nearest: ({ x }, _, [, , H, W]) => interpolate(x, [H, W], 'nearest'),
  interp_bilinear: ({ x }, _, [, , H, W]) => interpolate(x, [H, W], 'bilinear'),
  avg_pool: ({ x }, text) => avgPool2d(x, setting(text, 'pool')),
  max_pool: ({ x }, text) => maxPool2d(x, setting(text, 'pool')),
  pad: ({ x }, text, shape) => {
    const [, left] = /last dim \((\d+),/.exec(text)!
    const [, top] = /second last \((\d+),/.exec(text)!
    return pad(x, [...x.shape.slice(0, -2).map(() => 0), Number(top), Number(left)], shape)
  },
  linear: ({ x, w, b }) => linear(x, w, b ?? null),
  bmm: ({ a, b }) => matmul(a, b),
  matmul: ({ a, b }) => matmul(a, b),
  var: ({ x }, text) => variance(x, -1, { ddof: numberAfter(text, 'ddof') ?? 0 }),
  mse: ({ a, b }) => mse(a, b),
  l1: ({ a, b }) => l1(a, b),
  smooth_l1: ({ a, b }) => smoothL1(a, b),
  // Along the last axis: a product with a triangle of ones.
  cumsum: ({ x }) => {
    const n = x.shape.at(-1)!
    const triangle = Float64Array.from({ length: n * n }, (_, i) => (Math.floor(i / n) <= i % n ? 1 : 0))
    return matmul(x, tensor(triangle, { shape: [n, n], dtype: x.dtype, backend: x.backend }))
  },
}
