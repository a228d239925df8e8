/**
 * Calls that pytorch_calls.py names: ops by their own name, and what PyTorch has as one operator and demask as several.
 * Layers take their parameters as operands, optimizers a parameter and its gradients, one a step.
 */

import * as core from '../../core/index.ts'
import { type Tensor, type TensorOptions, zeros } from '../../core/index.ts'
import {
  AdamW,
  Conv2d,
  Embedding,
  GroupNorm,
  LayerNorm,
  Linear,
  type NamedParameters,
  type Optimizer,
  Sgd,
} from '../../nn/index.ts'
import { constantZero, type Init } from '../../nn/init.ts'
import { functionCalls } from './function-calls.ts'

/** A call: operands, numbers and options in; one or several tensors out. */
export type Call = (...args: never[]) => Tensor | readonly Tensor[]

type Axes = readonly number[] | null

const placeOf = ({ dtype, backend }: Tensor): TensorOptions => ({ dtype, backend })

const movement: Record<string, Call> = {
  slice: (x: Tensor, axis: number, start: number, end: number | null) => core.slice(x, axis, start, end ?? undefined),
  select: (x: Tensor, axis: number, at: number, shape: number[]) =>
    core.reshape(core.slice(x, axis, at, at + 1), shape),
  indexSelect: (x: Tensor, axis: number, index: Tensor) => {
    const [before, n, after] = [x.shape.slice(0, axis), x.shape[axis], x.shape.slice(axis + 1)]
    const [B, D] = [size(before), size(after)]
    const picked = core.gatherRows(core.reshape(x, [B, n, D]), core.broadcastTo(index, [B, index.size]))
    return core.reshape(picked, [...before, index.size, ...after])
  },
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
const composed: Record<string, Call> = {
  logSigmoid: (x: Tensor) => core.neg(core.softplus(core.neg(x))),
  addScaled: (a: Tensor, b: Tensor | number, alpha: number) =>
    core.add(a, typeof b === 'number' ? b * alpha : core.mul(b, alpha)),
  addcmul: (x: Tensor, a: Tensor, b: Tensor, value: number) => core.add(x, core.mul(core.mul(a, b), value)),
  addmm: (x: Tensor, a: Tensor, b: Tensor, beta: number, alpha: number) =>
    // PyTorch ignores x if beta is 0, whatever is in it.
    core.add(beta === 0 ? zeros(x.shape, placeOf(x)) : core.mul(x, beta), core.mul(core.matmul(a, b), alpha)),
  deviation: (x: Tensor, axes: Axes, ddof: number, keepDims: boolean) =>
    core.sqrt(core.variance(x, axes ?? undefined, { ddof, keepDims })),
}

/** With axes of null for all. */
const reductions: Record<string, Call> = {
  sum: (x: Tensor, axes: Axes, keepDims: boolean) => core.sum(x, axes ?? undefined, keepDims),
  mean: (x: Tensor, axes: Axes, keepDims: boolean) => core.mean(x, axes ?? undefined, keepDims),
  max: (x: Tensor, axes: Axes, keepDims: boolean) => core.max(x, axes ?? undefined, keepDims),
  min: (x: Tensor, axes: Axes, keepDims: boolean) => core.min(x, axes ?? undefined, keepDims),
  variance: (x: Tensor, axes: Axes, ddof: number, keepDims: boolean) =>
    core.variance(x, axes ?? undefined, { ddof, keepDims }),
}

/** Layers with given parameters. Their own first values are zeros, in the parameters' dtype. */
const layers: Record<string, Call> = {
  'layer Linear': (x: Tensor, weight: Tensor, bias: Tensor | null) =>
    withParameters(new Linear(1, 1, init, { weight: constantZero }), { weight, bias }).forward(x),
  'layer LayerNorm': (x: Tensor, weight: Tensor | null, bias: Tensor | null, eps: number) =>
    withParameters(new LayerNorm(1, init, { eps }), { weight, bias }).forward(x),
  'layer GroupNorm': (x: Tensor, weight: Tensor, bias: Tensor, groups: number, eps: number) =>
    withParameters(new GroupNorm(groups, weight.size, init, { eps }), { weight, bias }).forward(x),
  'layer Embedding': (ids: Tensor, weight: Tensor) =>
    withParameters(new Embedding(1, 1, init, constantZero), { weight }).forward(ids),
  'layer Conv2d': (x: Tensor, weight: Tensor, bias: Tensor | null, options: core.ConvOptions) =>
    withParameters(new Conv2d(x.shape[1], weight.shape[0], 1, init, { ...options, weight: constantZero }), {
      weight,
      bias,
    }).forward(x),
}

const init: Init = { rng: core.rng(0), backend: core.cpu }

/** The layer with these tensors in place of its parameters, which are disposed of. */
function withParameters<L extends object>(layer: L, parameters: Readonly<Record<string, Tensor | null>>): L {
  for (const name of Object.keys(parameters)) (layer as Record<string, Tensor | null>)[name]?.dispose()
  return Object.assign(layer, parameters)
}

const optimizers: Record<string, Call> = {
  'optimizer SGD': (start: Tensor, gradients: Tensor, options: TorchOptions) =>
    optimized(start, gradients, parameters => new Sgd(parameters, ours(options))),
  'optimizer AdamW': (start: Tensor, gradients: Tensor, options: TorchOptions) =>
    optimized(start, gradients, parameters => new AdamW(parameters, ours(options))),
}

/** Options under PyTorch's names. */
type TorchOptions = Readonly<Record<string, number | boolean>>

/** The same under ours, of which one differs. */
function ours({ weight_decay, ...rest }: TorchOptions): object {
  return weight_decay === undefined ? rest : { ...rest, weightDecay: weight_decay }
}

/** A copy of `start` after one step with each row of `gradients`. */
function optimized(start: Tensor, gradients: Tensor, make: (parameters: NamedParameters) => Optimizer): Tensor {
  const p = core.copy(start.detach()).requireGrad()
  const optimizer = make([['p', p]])
  for (const g of core.split(gradients.detach(), gradients.shape[0], 0)) {
    p.grad = core.reshape(g, p.shape)
    optimizer.step()
    p.grad.dispose()
    p.grad = null
  }
  optimizer.dispose()
  return p.detach()
}

export const calls: Readonly<Record<string, Call>> = {
  ...(core as unknown as Record<string, Call>),
  ...movement,
  ...composed,
  ...reductions,
  ...layers,
  ...optimizers,
  ...functionCalls,
}
