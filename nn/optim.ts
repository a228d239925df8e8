/**
 * What all optimizers share: named parameters, the global norm of their gradients, and state that can be saved. A step
 * is dispatched without reading anything back: the norm, whether it is finite, the clipping coefficient and the count of
 * steps are scalars on the device, and a step whose gradient norm or loss is not finite changes nothing. A parameter without a
 * gradient is left out of the step, as in PyTorch.
 *
 * Gradient accumulation needs no code of its own: `backward` adds to `.grad`. For k parts, backward(mul(loss, 1 / k)) for
 * each part, then one `step` and one `zeroGrad`. Next: adamw.ts, sgd.ts, adan.ts.
 */

import {
  add,
  affine,
  type Backend,
  type DType,
  div,
  isFinite as finiteOf,
  full,
  minimum,
  mul,
  noGrad,
  ones,
  type Shape,
  ShapeError,
  scope,
  sqrt,
  square,
  sum,
  Tensor,
  tensor,
  where,
  zeros,
} from '../core/index.ts'
import { misfit } from './misfit.ts'
import { type StateSource, zeroGrad } from './module.ts'

/** Parameters under the names that an optimizer's state is saved by. */
export type NamedParameters = Iterable<readonly [name: string, parameter: Tensor]>

/** What may change from step to step. */
export interface StepOptions {
  /** The learning rate of this step; the constructor's unless said. */
  readonly lr?: number
  /** Clips the gradients' global norm, on the way, to this. */
  readonly maxNorm?: number
  /** What the gradients are of, or its terms: a step in which one of these scalars is not finite does nothing either. */
  readonly losses?: readonly Tensor[]
}

/** Scalars on the device, shape []. */
export interface StepInfo {
  /** Of all gradients together, before clipping. */
  readonly norm: Tensor
  /** 1, or 0 where `norm` or a loss is not finite and the step did nothing. */
  readonly finite: Tensor
}

/** A parameter with a gradient. */
export interface Active {
  readonly name: string
  readonly p: Tensor
  readonly g: Tensor
}

/** What a step applies to every parameter; `clip` and `finite` are scalars on the device. */
export interface StepScalars {
  readonly lr: number
  readonly clip: Tensor
  readonly finite: Tensor
}

/** Tensors that an optimizer keeps for one parameter, by slot. */
export type Slots = Readonly<Record<string, Tensor>>

/** What all optimizers do: step, clip, skip what is not finite, keep state under names. */
export abstract class Optimizer {
  readonly parameters: ReadonlyMap<string, Tensor>
  readonly lr: number
  /** By parameter; begins with the parameter's first gradient. */
  protected readonly state = new Map<string, Slots>()
  /** Scalars of the optimizer as a whole. */
  protected readonly shared: Slots = {}
  /** Which slots a parameter has, and whether they are of its shape or scalars. */
  protected abstract readonly slots: Readonly<Record<string, 'like' | 'scalar'>>

  /** Frozen parameters are left out. Throws when none is left, or when they are of several dtypes or backends. */
  constructor(parameters: NamedParameters, lr: number) {
    this.parameters = new Map([...parameters].filter(([, p]) => p.requiresGrad))
    this.lr = lr
    const [first] = this.parameters.values()
    if (first === undefined) throw new Error('optimizer: wanted at least one parameter that requires a gradient')
    for (const [name, p] of this.parameters)
      if (p.dtype !== first.dtype || p.backend !== first.backend)
        throw new Error(
          `optimizer: wanted parameters of one dtype and backend, got ${name} in ${p.dtype} on ${p.backend.name} ` +
            `and others in ${first.dtype} on ${first.backend.name}`,
        )
  }

  /** Where this optimizer's scalars live. */
  protected get place(): { dtype: DType; backend: Backend } {
    const [{ dtype, backend }] = this.parameters.values()
    return { dtype, backend }
  }

  /**
   * Moves the parameters that have gradients. The gradients stay; call `zeroGrad` before the next backward. Throws
   * RangeError where the learning rate is not finite.
   */
  step({ lr = this.lr, maxNorm, losses = [] }: StepOptions = {}): StepInfo {
    if (!Number.isFinite(lr)) throw new RangeError(`optimizer: wanted a finite learning rate, got ${lr}`)
    return noGrad(() =>
      scope(() => {
        const active = [...this.parameters].flatMap(([name, p]) => (p.grad === null ? [] : { name, p, g: p.grad }))
        const norm = active.length === 0 ? zeros([], this.place) : gradNorm(active.map(({ g }) => g))
        const finite = losses.reduce((all, loss) => mul(all, finiteOf(loss)), finiteOf(norm))
        const clip = maxNorm === undefined ? ones([], this.place) : this.clipCoefficient(norm, maxNorm)
        this.update(active, { lr, clip, finite })
        return { norm, finite }
      }),
    )
  }

  protected clipCoefficient(norm: Tensor, maxNorm: number): Tensor {
    return clipCoefficient(norm, maxNorm, 1e-6)
  }

  protected abstract update(active: readonly Active[], scalars: StepScalars): void

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    zeroGrad(this.parameters.values())
  }

  /** The live state under `slot.parameter`, and what is shared under its own name: all that a resumed run needs. */
  stateDict(): Map<string, Tensor> {
    const own = [...this.parameters.keys()].flatMap(name =>
      Object.entries(this.state.get(name) ?? {}).map(([slot, tensor]): [string, Tensor] => [`${slot}.${name}`, tensor]),
    )
    return new Map([...Object.entries(this.shared), ...own])
  }

  /**
   * Puts the state where `stateDict` was called, which may be this optimizer's own. Parameters without state have none
   * afterwards. Throws ShapeError, before anything changes, in one line that names every tensor that is missing, not
   * wanted, of another shape, or with more or fewer values than its shape says.
   */
  loadStateDict(source: StateSource): void {
    const started = [...this.parameters].filter(([name]) =>
      Object.keys(this.slots).some(slot => source.has(`${slot}.${name}`)),
    )
    const wanted = new Map<string, Shape>(Object.keys(this.shared).map(name => [name, []]))
    for (const [name, { shape }] of started)
      for (const [slot, kind] of Object.entries(this.slots)) wanted.set(`${slot}.${name}`, kind === 'like' ? shape : [])
    checkState(wanted, source)
    const load = (name: string) => stateTensor(valuesOf(source, name), wanted.get(name)!, this.place)
    const shared = Object.fromEntries(Object.keys(this.shared).map(name => [name, load(name)]))
    const slotsOf = (name: string) => Object.keys(this.slots).map(slot => [slot, load(`${slot}.${name}`)] as const)
    const state = started.map(([name]) => [name, Object.fromEntries(slotsOf(name))] as const)
    this.#clear() // only now: `source` may be what is held here
    Object.assign(this.shared, shared)
    for (const [name, slots] of state) this.state.set(name, slots)
  }

  #clear(): void {
    for (const tensor of this.stateDict().values()) tensor.dispose()
    this.state.clear()
  }

  /** Frees the state, not the parameters. */
  dispose(): void {
    this.#clear()
  }
}

function checkState(wanted: ReadonlyMap<string, Shape>, source: StateSource): void {
  const problems: string[] = []
  for (const [name, shape] of wanted) {
    const got = source.get(name)
    const problem = got && misfit(got, shape)
    if (got === undefined) problems.push(`${name} is missing`)
    else if (problem !== undefined) problems.push(`${name}: ${problem}`)
  }
  for (const name of source.keys()) if (!wanted.has(name)) problems.push(`${name} is not wanted`)
  if (problems.length > 0) throw new ShapeError(`optimizer: loadStateDict: ${problems.join('; ')}`)
}

/** The values of one entry, on the host. */
export function valuesOf(source: StateSource, name: string): ArrayLike<number> {
  const value = source.get(name)!
  return value instanceof Tensor ? value.dataSync() : value.data
}

/** A tensor of optimizer state: scopes leave it alone. */
export function stateTensor(
  values: ArrayLike<number>,
  shape: Shape,
  place: { dtype: DType; backend: Backend },
): Tensor {
  return tensor(values, { shape, ...place }).persist()
}

/** target ← value where `finite` is 1. */
export function assignWhere(finite: Tensor, target: Tensor, value: Tensor): void {
  target.replaceWith(where(finite, value, target))
}

/** √Σ g² over all elements of all gradients: a scalar on the device. */
export function gradNorm(gradients: readonly Tensor[]): Tensor {
  const [{ backend, dtype }] = gradients
  const storage = backend.kernels.sumOfSquares?.(gradients, { shape: [], dtype })
  return sqrt(storage === undefined ? gradients.map(g => sum(square(g))).reduce(add2) : new Tensor(storage, []))
}

const add2 = (a: Tensor, b: Tensor) => add(a, b)

/** min(1, maxNorm / (norm + eps)): a scalar on the device. */
export function clipCoefficient(norm: Tensor, maxNorm: number, eps: number): Tensor {
  const { dtype, backend } = norm
  return minimum(div(full([], maxNorm, { dtype, backend }), affine(norm, 1, eps)), 1)
}

/** Scales all gradients so that their global norm is at most maxNorm; the norm they had. PyTorch's clip_grad_norm_. */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): Tensor {
  return noGrad(() =>
    scope(() => {
      const gradients = [...parameters].flatMap(({ grad }) => grad ?? [])
      if (gradients.length === 0) return zeros([])
      const norm = gradNorm(gradients)
      const coefficient = clipCoefficient(norm, maxNorm, 1e-6)
      for (const g of gradients) scope(() => g.replaceWith(mul(g, coefficient)))
      return norm
    }),
  )
}
