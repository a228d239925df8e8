/**
 * One training step: the parts of a batch, their gradients, an update and one read. Runs in a browser, too; run.ts is the
 * run around the steps. A batch is one part unless it is split. Every part's gradient is complete before it is added to
 * another's, and the sum is a pairwise tree in a fixed order: how the parts are shared out cannot change the result. Several
 * processes may compute them, each some of the parts.
 */

import { add, copy, full, mul, type Rng, scope, stack, type Tensor, tensor } from '../core/index.ts'
import type { Part } from '../models/family.ts'
import type { StepInfo } from '../nn/index.ts'
import { checkStep } from './arguments.ts'

/** Parts [from, to) of a batch. */
export type PartRange = readonly [from: number, to: number]

/** Pictures of a step, and the random numbers of their losses. */
export interface StepInputs {
  /** Steps that are done. */
  readonly step: number
  /** Share of the run that is over, in [0, 1). */
  readonly progress: number
  /** (N, C, H, W) pictures in [-1, 1], or latents, of the parts that are computed here. */
  readonly images: Float32Array
  readonly shape: readonly [N: number, C: number, H: number, W: number]
  /** N labels; null for a model without classes. */
  readonly labels: Int32Array | null
  /** Number of parts of the whole batch. */
  readonly parts: number
  /** Parts that are computed here; by default all. Their number divides N. */
  readonly own?: PartRange
  /** Adds the tensors of all processes, if others compute other parts. */
  readonly allSum?: (tensors: readonly Tensor[]) => void
  /** Stream of the run. Part p of a step uses its fork number step · parts + p. */
  readonly rng: Rng
}

/** Part of a batch, and the report of its losses. */
export interface StepPart extends Part {
  /** Adds detached scalars to the step's report, each a mean over the part. */
  report(terms: Readonly<Record<string, Tensor>>): void
}

/** Forward and backward over a part. Reports the same terms for every part. */
export type ComputePart = (part: StepPart) => void

/** Moves the weights by their gradients, or does nothing if one of `losses` is not finite, and drops the gradients. */
export type Update = (losses: readonly Tensor[]) => StepInfo

/** Result of a step, on the host. */
export interface StepOutcome {
  /** Reported terms, means over the batch. */
  readonly terms: Readonly<Record<string, number>>
  /** Global norm of the gradients, before clipping. */
  readonly gradNorm: number
  /** Learning rate of the update. */
  readonly lr: number
  /** False if the update did nothing, since a gradient or a loss was not finite. */
  readonly finite: boolean
}

/** Runs a step on `parameters` of any shape: all parts, the update, and one read. Throws what `compute` throws. */
export async function runStep(
  inputs: StepInputs,
  parameters: readonly Tensor[],
  compute: ComputePart,
  update: Update,
): Promise<StepOutcome> {
  checkStep('runStep', inputs, parameters, compute, update)
  const { names, values, lr } = dispatchStep(inputs, parameters, compute, update)
  const read = [...(await values.data())]
  values.dispose()
  const finite = read.pop() === 1
  const gradNorm = read.pop()!
  return { terms: Object.fromEntries(names.map((name, i) => [name, read[i]])), gradNorm, lr, finite }
}

/**
 * Computes a step on `parameters` of any shape without reading it: its terms, the norm of the gradients and 1 or 0 for finite,
 * as one vector under these names and two more. The caller disposes of it.
 */
export function dispatchStep(
  inputs: StepInputs,
  parameters: readonly Tensor[],
  compute: ComputePart,
  update: Update,
): { readonly names: readonly string[]; readonly values: Tensor; readonly lr: number } {
  checkStep('dispatchStep', inputs, parameters, compute, update)
  return scope(() => {
    const terms = sumOverParts(inputs, parameters, compute)
    const losses = [...terms.values()]
    const { norm, finite, lr } = update(losses)
    return { names: [...terms.keys()], values: stack([...losses, norm, finite], 0), lr }
  })
}

/** Runs the parts one after another. Their gradients add up in the parameters, in whatever order. */
export function replayParts(inputs: StepInputs, compute: ComputePart): void {
  const [from, to] = ownParts(inputs)
  for (let p = from; p < to; p++) computePart(inputs, p, compute)
}

function ownParts({ parts, own = [0, parts] }: StepInputs): PartRange {
  return own
}

/** Forward and backward over part p. Returns the reported terms. */
function computePart(inputs: StepInputs, p: number, compute: ComputePart): Map<string, Tensor> {
  const { step, progress, images, shape, labels, parts, rng } = inputs
  const [from, to] = ownParts(inputs)
  const n = shape[0] / (to - from)
  const values = images.length / (to - from)
  const place = p - from // among those here
  const terms = new Map<string, Tensor>()
  const reported = scope(() => {
    compute({
      images: tensor(images.subarray(place * values, (place + 1) * values), { shape: [n, ...shape.slice(1)] }),
      labels: labels?.subarray(place * n, (place + 1) * n) ?? null,
      rng: rng.fork('step').fork(step * parts + p),
      progress,
      report(more) {
        for (const [name, term] of Object.entries(more)) terms.set(name, term)
      },
    })
    return [...terms.values()]
  })
  return new Map([...terms.keys()].map((name, i) => [name, reported[i]]))
}

/** Gradients and terms, summed over some of the parts. */
interface PartialSum {
  readonly parts: number
  /** By parameter, owned by this sum; null for a parameter without a gradient, which counts as 0. */
  readonly gradients: readonly (Tensor | null)[]
  readonly terms: ReadonlyMap<string, Tensor>
}

/** Leaves the mean gradient over all parts in the parameters. Returns the means of the terms. */
function sumOverParts(
  inputs: StepInputs,
  parameters: readonly Tensor[],
  compute: ComputePart,
): ReadonlyMap<string, Tensor> {
  const { parts, allSum } = inputs
  const [from, to] = ownParts(inputs)
  if (parts === 1) return computePart(inputs, 0, compute)
  const pending: PartialSum[] = [] // of 2ᵏ parts each, fewer to the right, so that log₂ parts gradients are in memory
  for (let p = from; p < to; p++) {
    const terms = computePart(inputs, p, compute)
    let sum: PartialSum = { parts: 1, gradients: parameters.map(takeGradient), terms }
    while (pending.at(-1)?.parts === sum.parts) sum = added(pending.pop()!, sum)
    pending.push(sum)
  }
  const here = pending.reduceRight((right, left) => added(left, right))
  const { gradients, terms } = allSum === undefined ? here : addedByAll(here, parameters, allSum)
  for (const [i, parameter] of parameters.entries()) {
    const gradient = gradients[i]
    if (gradient !== null) scope(() => gradient.replaceWith(mul(gradient, 1 / parts)))
    parameter.grad = gradient
  }
  return new Map([...terms].map(([name, term]) => [name, mul(term, 1 / parts)]))
}

function takeGradient(parameter: Tensor): Tensor | null {
  const { grad } = parameter
  parameter.grad = null
  return grad
}

/** The sum of two sums, which it takes over. */
function added(a: PartialSum, b: PartialSum): PartialSum {
  const gradients = a.gradients.map((gradient, i) => {
    const other = b.gradients[i]
    if (gradient === null || other === null) return gradient ?? other
    scope(() => gradient.replaceWith(add(gradient, other)))
    other.dispose()
    return gradient
  })
  const terms = new Map([...a.terms].map(([name, term]) => [name, add(term, b.terms.get(name)!)]))
  return { parts: a.parts + b.parts, gradients, terms }
}

/** The sum over all processes of their sums, which it takes over. All processes have the same parameters and terms. */
function addedByAll(
  { parts, gradients, terms }: PartialSum,
  parameters: readonly Tensor[],
  allSum: (tensors: readonly Tensor[]) => void,
): PartialSum {
  const present = tensor(gradients.map(gradient => (gradient === null ? 0 : 1)))
  const own = gradients.map((gradient, i) => {
    // −0 changes no number that it is added to, not even −0.
    if (gradient === null) {
      const { shape, dtype, backend } = parameters[i]
      return full(shape, -0, { dtype, backend }).persist()
    }
    if (gradient.storage.holds > 1) scope(() => gradient.replaceWith(copy(gradient))) // another parameter may share it
    return gradient
  })
  const losses = new Map([...terms].map(([name, term]) => [name, copy(term)]))
  allSum([present, ...own, ...losses.values()])
  const counts = present.dataSync()
  const sums = own.map((gradient, i) => {
    if (counts[i] > 0) return gradient
    gradient.dispose()
    return null
  })
  return { parts, gradients: sums, terms: losses }
}
