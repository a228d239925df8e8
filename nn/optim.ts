/**
 * The base of all optimizers: parameter groups, the global norm of the gradients, and state that can be saved. A step is
 * dispatched without reading anything back: the norm, whether it is finite, the clipping coefficient and the count of
 * steps are scalars on the device, and a step whose gradient norm or loss is not finite changes nothing. An update writes the
 * parameter's memory: views and detached handles follow. A parameter without a gradient is left out of the step, as in PyTorch.
 *
 * Gradient accumulation needs no code of its own: `backward` adds to `.grad`. For k parts, backward(mul(loss, 1 / k)) for
 * each part, then one `step` and one `zeroGrad`. The arithmetic is core/ops/update.ts.
 */

import {
  aBoolean,
  aNumber,
  anObject,
  aString,
  aTensor,
  check,
  checkFloats,
  checkOptions,
  checkTensor,
  iterableOf,
  type Kind,
  numbers,
  tensors,
} from '../core/arguments.ts'
import {
  abs,
  add,
  affine,
  assign,
  type Backend,
  type DType,
  div,
  isFinite as finiteOf,
  full,
  type Hyperparameters,
  max,
  maximum,
  minimum,
  mul,
  noGrad,
  ones,
  pow,
  type Shape,
  ShapeError,
  scope,
  sqrt,
  sum,
  sumOfSquares,
  Tensor,
  tensor,
  zeros,
} from '../core/index.ts'
import { checkHyperparameters } from '../core/ops/update.ts'
import { atCaller } from '../core/traceback.ts'
import { aStateSource, type StateSource, zeroGrad } from './module.ts'
import { shapeMismatch } from './shape-mismatch.ts'

/** Parameters under the names that an optimizer's state is saved by. */
export type NamedParameters = Iterable<readonly [name: string, parameter: Tensor]>

/** Hyperparameters of an optimizer: at least a learning rate. */
export type OptimizerOptions = Hyperparameters & { readonly lr: number }

/** Parameters with hyperparameters of their own; those left out are the optimizer's. */
export type ParameterGroup<O> = Partial<O> & { readonly params: NamedParameters }

/** Named parameters, or groups of them. */
export type OptimizerParameters<O> = NamedParameters | readonly ParameterGroup<O>[]

/** A parameter group with every hyperparameter settled. */
export interface Group<O> {
  readonly index: number
  readonly parameters: ReadonlyMap<string, Tensor>
  readonly options: O
  /** True if the group set its own learning rate, which the one of a step does not replace. */
  readonly ownLr: boolean
}

/** Options that may change from step to step. */
export interface StepOptions {
  /** The learning rate of this step, for all groups without one of their own; by default the constructor's. */
  readonly lr?: number
  /** Clips the gradients' global norm, over all groups, to this. */
  readonly maxNorm?: number
  /** The loss, or its terms: the step is skipped as well if one of these scalars is not finite. */
  readonly losses?: readonly Tensor[]
}

/** Result of a step. Its tensors are scalars on the device, shape []. */
export interface StepInfo {
  /** Norm of all gradients together, before clipping. */
  readonly norm: Tensor
  /** 1, or 0 where `norm` or a loss is not finite and the step did nothing. */
  readonly finite: Tensor
  /** Learning rate of the step. */
  readonly lr: number
}

/** A parameter with a gradient. */
export interface Active {
  readonly name: string
  readonly p: Tensor
  readonly g: Tensor
}

/** Scalars of a step that apply to every parameter; `clip` and `finite` are on the device. */
export interface StepScalars {
  readonly lr: number
  readonly clip: Tensor
  readonly finite: Tensor
}

/** Tensors that an optimizer keeps for one parameter, by slot. */
export type Slots = Readonly<Record<string, Tensor>>

/** For each slot, whether it has the shape of the parameter or is a scalar. */
export type SlotKinds = Readonly<Record<string, 'like' | 'scalar'>>

/** Base of all optimizers: step, clipping, skipping of non-finite steps, state by name. */
export abstract class Optimizer<O extends OptimizerOptions = OptimizerOptions> {
  /** Parameters of all groups. */
  readonly parameters: ReadonlyMap<string, Tensor>
  readonly groups: readonly Group<O>[]
  /** By parameter; begins with the parameter's first gradient. */
  protected readonly state = new Map<string, Slots>()
  /** Scalars of the optimizer as a whole. */
  protected readonly shared: Record<string, Tensor> = {}
  readonly #name: string
  /** Parameters that this optimizer moves; null for all. */
  #own: ReadonlySet<Tensor> | null = null

  /**
   * Frozen parameters are left out, and a parameter under several names counts under the first. Throws RangeError on a
   * hyperparameter out of range; throws when no parameter is left, when two have one name, when one is in two groups, and
   * when they are of several dtypes or backends.
   */
  constructor(name: string, parameters: OptimizerParameters<O>, defaults: O, options: Partial<O>) {
    this.#name = name
    checkHyperparameterNames(name, options, defaults)
    const common = { ...defaults, ...given(options) }
    const groups = groupsOf(name, parameters)
    const members = trainable(name, groups)
    this.groups = groups.map(({ own }, index) => {
      checkHyperparameterNames(name, own, defaults)
      const options: O = { ...common, ...given(own) }
      checkHyperparameters(name, options)
      return { index, parameters: members[index], options, ownLr: own.lr !== undefined }
    })
    this.parameters = new Map(members.flatMap(own => [...own]))
    const [first] = this.parameters.values()
    if (first === undefined)
      throw atCaller(new Error(`${name}: expected at least one parameter that requires a gradient`))
    for (const [parameter, p] of this.parameters)
      if (p.dtype !== first.dtype || p.backend !== first.backend)
        throw atCaller(
          new Error(
            `${name}: expected parameters of one dtype and backend, got ${parameter} in ${p.dtype} on ${p.backend.name} ` +
              `and others in ${first.dtype} on ${first.backend.name}`,
          ),
        )
  }

  /** Where this optimizer's scalars live. */
  protected get place(): { dtype: DType; backend: Backend } {
    const [{ dtype, backend }] = this.parameters.values()
    return { dtype, backend }
  }

  /**
   * Moves the parameters that have gradients. The gradients stay; call `zeroGrad` before the next backward. Throws
   * RangeError on a learning rate or norm that is negative or not finite.
   */
  step(options: StepOptions = {}): StepInfo {
    checkOptions(this.#name, options, stepKinds)
    const { lr, maxNorm, losses = [] } = options
    checkHyperparameters(this.#name, { lr })
    if (maxNorm !== undefined) checkMaxNorm(this.#name, maxNorm)
    return noGrad(() =>
      scope(() => {
        const gradients = [...this.parameters.values()].flatMap(({ grad }) => grad ?? [])
        const norm = gradients.length === 0 ? zeros([], this.place) : normOfSquares(gradients)
        const finite = losses.reduce((all, loss) => mul(all, finiteOf(loss)), finiteOf(norm))
        for (const group of this.groups) {
          const { options, ownLr } = group
          const clip =
            maxNorm === undefined ? ones([], this.place) : clipCoefficient(norm, maxNorm, this.clipEps(options))
          const active = [...group.parameters].flatMap(([name, p]) =>
            p.grad === null || !this.#owns(p) ? [] : { name, p, g: p.grad },
          )
          this.update(group, active, { lr: ownLr ? options.lr : (lr ?? options.lr), clip, finite })
        }
        return { norm, finite, lr: lr ?? this.groups[0].options.lr }
      }),
    )
  }

  #owns(p: Tensor): boolean {
    return this.#own === null || this.#own.has(p)
  }

  /**
   * From now on moves only these parameters, of any shapes, and keeps only their state; others are the task of optimizers
   * in other processes. The norm of a step is still that of all gradients.
   */
  keepOnly(parameters: Iterable<Tensor>): void {
    this.#own = new Set(parameters)
    for (const [name, slots] of this.state) {
      if (this.#owns(this.parameters.get(name)!)) continue
      const shared = new Set([...this.state].flatMap(([other, own]) => (other === name ? [] : Object.values(own))))
      for (const tensor of Object.values(slots)) if (!shared.has(tensor)) tensor.dispose()
      this.state.delete(name)
    }
  }

  /** Added to the norm that clipping divides by. */
  protected clipEps(_: O): number {
    return 1e-6
  }

  /** The tensors kept for each parameter: of its shape, or scalars. */
  protected abstract slotsOf(options: O): SlotKinds

  protected abstract update(group: Group<O>, active: readonly Active[], scalars: StepScalars): void

  /** Zeros for a parameter's first step. */
  protected zeroSlots(name: string, kinds: SlotKinds): Slots {
    const { shape } = this.parameters.get(name)!
    const zero = (kind: 'like' | 'scalar') => zeros(kind === 'like' ? shape : [], this.place).persist()
    return Object.fromEntries(Object.entries(kinds).map(([slot, kind]) => [slot, zero(kind)]))
  }

  /** The state of a parameter, which begins with zeros. */
  protected slotsAt(name: string, { options }: Group<O>): Slots {
    const slots = this.state.get(name) ?? this.zeroSlots(name, this.slotsOf(options))
    this.state.set(name, slots)
    return slots
  }

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
    check(this.#name, 'source', source, aStateSource)
    const started = this.groups.flatMap(({ parameters, options }) => {
      const slots = Object.entries(this.slotsOf(options))
      const saved = ([name]: readonly [string, Tensor]) => slots.some(([slot]) => source.has(`${slot}.${name}`))
      return [...parameters].filter(saved).map(([name, { shape }]) => ({ name, shape, slots }))
    })
    const wanted = new Map<string, Shape>(Object.keys(this.shared).map(name => [name, []]))
    for (const { name, shape, slots } of started)
      for (const [slot, kind] of slots) wanted.set(`${slot}.${name}`, kind === 'like' ? shape : [])
    checkState(this.#name, wanted, source)
    const load = (name: string) => stateTensor(valuesOf(source, name), wanted.get(name)!, this.place)
    const shared = Object.fromEntries(Object.keys(this.shared).map(name => [name, load(name)]))
    const kept = started.filter(({ name }) => this.#owns(this.parameters.get(name)!))
    const state = kept.map(({ name, slots }) => {
      const loaded = slots.map(([slot]) => [slot, load(`${slot}.${name}`)] as const)
      return [name, Object.fromEntries(loaded)] as const
    })
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

function checkState(op: string, wanted: ReadonlyMap<string, Shape>, source: StateSource): void {
  const problems: string[] = []
  for (const [name, shape] of wanted) {
    const got = source.get(name)
    const problem = got && shapeMismatch(got, shape)
    if (got === undefined) problems.push(`${name} is missing`)
    else if (problem !== undefined) problems.push(`${name}: ${problem}`)
  }
  for (const name of source.keys()) if (!wanted.has(name)) problems.push(`${name} is unexpected`)
  if (problems.length > 0) throw new ShapeError(`${op}: loadStateDict: ${problems.join('; ')}`)
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

/** Returns the options that are set, without undefined ones. */
function given<O extends object>(options: O): O {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as O
}

const stepKinds = { lr: aNumber, maxNorm: aNumber, losses: tensors }
const parametersKind = iterableOf('pairs of a name and a parameter, or of groups')
const aParameter: Kind = {
  expected: 'a pair of a name and a tensor, as namedParameters() has them, or a group with params',
  accepts: item =>
    (Array.isArray(item) && aString.accepts(item[0]) && aTensor.accepts(item[1])) ||
    (anObject.accepts(item) && 'params' in (item as object)),
}

/** Throws TypeError unless the options are among the defaults, and of their types. */
function checkHyperparameterNames<O extends object>(op: string, options: Partial<O>, defaults: O): void {
  const kinds = Object.fromEntries(
    Object.entries(defaults).map(([name, value]) => [
      name,
      Array.isArray(value)
        ? numbers
        : typeof value === 'number'
          ? aNumber
          : typeof value === 'boolean'
            ? aBoolean
            : aString,
    ]),
  )
  checkOptions<Record<string, unknown>>(op, options as Record<string, unknown>, kinds)
}

interface GroupParts<O> {
  readonly params: NamedParameters
  readonly own: Partial<O>
}

/** The groups; parameters that are in none are one. */
function groupsOf<O extends object>(op: string, parameters: OptimizerParameters<O>): GroupParts<O>[] {
  check(op, 'parameters', parameters, parametersKind)
  const groups: GroupParts<O>[] = []
  const loose: (readonly [string, Tensor])[] = []
  for (const item of parameters) {
    check(op, 'every parameter', item, aParameter)
    if (!('params' in item)) loose.push(item)
    else {
      const { params, ...own } = item
      groups.push({ params, own: own as Partial<O> })
    }
  }
  return groups.length > 0 ? groups : [{ params: loose, own: {} }]
}

/**
 * The trainable parameters of each group, each under its first name. Throws when two parameters have one name, and when
 * one parameter is in two groups.
 */
function trainable(op: string, groups: readonly { readonly params: NamedParameters }[]): Map<string, Tensor>[] {
  const names = new Map<string, Tensor>()
  const owners = new Map<Tensor, number>()
  return groups.map(({ params }, index) => {
    const own = new Map<string, Tensor>()
    for (const [name, p] of params) {
      if (!p.requiresGrad) continue
      if ((names.get(name) ?? p) !== p)
        throw atCaller(new Error(`${op}: expected a name for each parameter, got two named '${name}'`))
      names.set(name, p)
      const owner = owners.get(p)
      if (owner === undefined) own.set(name, p)
      else if (owner !== index)
        throw atCaller(new Error(`${op}: expected each parameter in one group, got '${name}' in two`))
      owners.set(p, index)
    }
    return own
  })
}

/** c ← 1 − β^t of the next step, for each β, where the step is finite: 1 − β^t = β (1 − β^(t−1)) + 1 − β. */
export function countStep(corrections: readonly Tensor[], betas: readonly number[], finite: Tensor): void {
  const next = corrections.map((c, i) => affine(c, betas[i], 1 - betas[i]))
  assign(corrections, next, finite)
}

/** √Σ g² over all elements of all gradients: a scalar on the device. */
export function gradNorm(gradients: readonly Tensor[]): Tensor {
  check('gradNorm', 'gradients', gradients, tensors)
  if (gradients.length === 0) throw new ShapeError('gradNorm: expected at least one gradient, got none')
  checkFloats('gradNorm', Object.fromEntries(gradients.map((g, i) => [`gradient ${i + 1}`, g])))
  return normOfSquares(gradients)
}

function normOfSquares(gradients: readonly Tensor[]): Tensor {
  return sqrt(sumOfSquares(gradients))
}

/** min(1, maxNorm / (norm + eps)): a scalar on the device. */
function clipCoefficient(norm: Tensor, maxNorm: number, eps: number): Tensor {
  const { dtype, backend } = norm
  return minimum(div(full([], maxNorm, { dtype, backend }), affine(norm, 1, eps)), 1)
}

function checkMaxNorm(op: string, maxNorm: number): void {
  check(op, 'maxNorm', maxNorm, aNumber)
  if (!(maxNorm >= 0 && maxNorm < Infinity))
    throw atCaller(new RangeError(`${op}: expected a finite maxNorm ≥ 0, got ${maxNorm}`))
}

/** (Σ |g|^p)^(1/p) over all elements of all gradients, or the largest |g| for p = ∞: a scalar on the device. */
function normOf(gradients: readonly Tensor[], p: number): Tensor {
  if (p === 2) return normOfSquares(gradients)
  const sizes = gradients.map(abs)
  if (p === Infinity) return sizes.map(size => max(size)).reduce((a, b) => maximum(a, b))
  const powers = sizes.map(size => sum(p === 1 ? size : pow(size, p))).reduce((a, b) => add(a, b))
  return p === 1 ? powers : pow(powers, 1 / p)
}

/** Options of `clipGradNorm`. */
export interface ClipOptions {
  /** p of the p-norm, above 0; Infinity for the largest gradient. By default 2. */
  readonly normType?: number
}

/**
 * Scales all gradients in place so that their global norm is at most maxNorm; returns the norm they had, a scalar. PyTorch's
 * clip_grad_norm_. Throws RangeError on a maxNorm that is negative or not finite, and on a norm type that is not above 0.
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number, options: ClipOptions = {}): Tensor {
  check('clipGradNorm', 'parameters', parameters, iterableOf('tensors'))
  checkMaxNorm('clipGradNorm', maxNorm)
  checkOptions('clipGradNorm', options, { normType: aNumber })
  const { normType = 2 } = options
  if (!(normType > 0)) throw atCaller(new RangeError(`clipGradNorm: expected a norm type above 0, got ${normType}`))
  return noGrad(() =>
    scope(() => {
      const given = [...new Set(parameters)]
      for (const p of given) checkTensor('clipGradNorm', 'a parameter', p)
      const gradients = given.flatMap(({ grad }) => grad ?? [])
      if (gradients.length === 0) return zeros([])
      const norm = normOf(gradients, normType)
      const coefficient = clipCoefficient(norm, maxNorm, 1e-6)
      for (const g of gradients) scope(() => assign([g], [mul(g, coefficient)]))
      return norm
    }),
  )
}
