/** Calls that pytorch_functions.py names where they are not those of demask: null for an absent axis, layers with parameters. */

import type { Tensor } from '../../core/index.ts'
import * as core from '../../core/index.ts'
import { BatchNorm, type Init, MultiHeadAttention } from '../../nn/index.ts'
import type { Call } from './calls.ts'

type Axes = readonly number[] | null
type Reduction = (x: Tensor, axes?: core.Axes, keepDims?: boolean) => Tensor

/** With axes of null for all. */
const over = (f: Reduction) => (x: Tensor, axes: Axes, keepDims: boolean) => f(x, axes ?? undefined, keepDims)
const at =
  (f: (x: Tensor, axis?: number, keepDims?: boolean) => Tensor) =>
  (x: Tensor, axis: number | null, keepDims: boolean) =>
    f(x, axis ?? undefined, keepDims)

const init: Init = { rng: null, backend: core.cpu }

/** The module with these tensors in place of its own, which are disposed of. */
function withTensors<M extends object>(module: M, tensors: Readonly<Record<string, Tensor | null>>): M {
  for (const name of Object.keys(tensors)) (module as Record<string, Tensor | null>)[name]?.dispose()
  return Object.assign(module, tensors)
}

const bothCrossEntropies = {
  binaryCrossEntropy: core.binaryCrossEntropy,
  binaryCrossEntropyWithLogits: core.binaryCrossEntropyWithLogits,
}

/** A weight without a gradient, for which PyTorch has none. */
function detached(options: core.LogitsOptions, name: 'weight' | 'positiveWeight'): core.LogitsOptions {
  const weight = options[name]
  return weight === undefined ? {} : { [name]: weight.detach() }
}

export const functionCalls: Readonly<Record<string, Call>> = {
  logsumexp: over(core.logsumexp),
  prod: over(core.prod),
  any: over(core.any),
  all: over(core.all),
  argmax: at(core.argmax),
  argmin: at(core.argmin),
  std: (x: Tensor, axes: Axes, options: object) => core.std(x, axes ?? undefined, options),
  norm: (x: Tensor, axes: Axes, options: object) => core.norm(x, axes ?? undefined, options),
  sortedValues: (x: Tensor, axis: number, descending: boolean) => core.sort(x, axis, { descending }).values,
  topValues: (x: Tensor, k: number, axis: number, largest: boolean) => core.topk(x, k, axis, { largest }).values,
  crossEntropyOfWeights: (
    name: 'binaryCrossEntropy' | 'binaryCrossEntropyWithLogits',
    x: Tensor,
    target: Tensor,
    options: core.LogitsOptions,
  ) =>
    bothCrossEntropies[name](x, target, {
      ...options,
      ...detached(options, 'weight'),
      ...detached(options, 'positiveWeight'),
    }),
  'layer BatchNorm': (x: Tensor, weight: Tensor | null, bias: Tensor | null, eps: number) => {
    const place = { dtype: x.dtype, backend: x.backend }
    const layer = new BatchNorm(x.shape[1], { rng: null, ...place }, { eps })
    return withTensors(layer, { weight, bias }).forward(x, true)
  },
  'layer MultiHeadAttention': (
    [query, key, value]: readonly Tensor[],
    [weights, biases]: readonly (readonly Tensor[])[],
    heads: number,
    batchFirst: boolean,
  ) => {
    const turn = (x: Tensor) => (batchFirst ? x : core.permute(x, [1, 0, 2]))
    const rest = weights.slice(1, -1)
    const D = weights.at(-1)!.shape[0]
    const widths = rest.length === 0 ? {} : { kdim: rest[0].shape[1], vdim: rest[1].shape[1] }
    const layer = new MultiHeadAttention(D, heads, init, { bias: biases.length > 0, ...widths })
    const names = rest.length === 0 ? ['in_proj_weight'] : ['q_proj_weight', 'k_proj_weight', 'v_proj_weight']
    const own = Object.fromEntries(names.map((name, i) => [name, weights[i]]))
    withTensors(layer.out_proj, { weight: weights.at(-1)!, bias: biases[1] ?? null })
    withTensors(layer, { ...own, in_proj_bias: biases[0] ?? null })
    return turn(layer.forward(turn(query), turn(key), turn(value)))
  },
}
