/**
 * A module is a class whose fields hold its parameters, buffers and sub-modules, spelled as in the official PyTorch code:
 * the state dict is a plain walk over the fields, and a published checkpoint loads without a mapping table. As in
 * PyTorch, a module's own tensors come before those of its children. There is no train/eval switch: what differs
 * between the two (label drops, masks) is an argument of `forward`.
 */

import {
  aBackend,
  aBoolean,
  aFunction,
  check,
  checkFloats,
  checkOptions,
  checkTensor,
  iterableOf,
  type Kind,
} from '../core/arguments.ts'
import { toTypedArray } from '../core/dtype.ts'
import { assign, type Backend, cast, noGrad, type Shape, ShapeError, scope, Tensor } from '../core/index.ts'
import { atCaller } from '../core/traceback.ts'
import { shapeMismatch } from './shape-mismatch.ts'
import { summaryText } from './summary.ts'

type Role = 'parameter' | 'frozen' | 'buffer'

/** A tensor that belongs to a module's state. Made by `parameter`, `frozen` and `buffer`. */
export class StateTensor extends Tensor {
  #role: Role

  /** With the value and shape of a tensor, whose handle it takes over. */
  constructor(value: Tensor, role: Role) {
    super(value.storage, value.shape)
    if (role === 'parameter') this.requireGrad()
    this.#role = role
    this.persist()
    value.dispose()
  }

  get role(): Role {
    return this.#role
  }

  /** Makes a parameter one that is never trained. */
  freeze(): void {
    if (this.#role === 'buffer') return
    this.requireGrad(false)
    this.#role = 'frozen'
  }
}

/** A trainable parameter with this value and shape, whose handle it takes over. */
export function parameter(value: Tensor): Tensor {
  checkFloats('parameter', { value })
  return new StateTensor(value, 'parameter')
}

/** A parameter of any shape that is counted and saved as one but is never trained, such as DiT's `pos_embed`. */
export function frozen(value: Tensor): Tensor {
  checkTensor('frozen', 'value', value)
  return new StateTensor(value, 'frozen')
}

/** A saved tensor of any shape that is no parameter, such as an index table. */
export function buffer(value: Tensor): Tensor {
  checkTensor('buffer', 'value', value)
  return new StateTensor(value, 'buffer')
}

/** Numbers of elements. `total` counts all parameters, `trainable` those that are not frozen. */
export interface ParameterCount {
  readonly total: number
  readonly trainable: number
  readonly buffers: number
}

/** Elements on the host, as a safetensors file gives them. */
export interface HostState {
  readonly shape: Shape
  readonly data: ArrayLike<number>
}

/** Source of a state dict. A tensor on another backend than the target's is read synchronously, if the backend can. */
export type StateSource = ReadonlyMap<string, Tensor | HostState>

/** Parameters, buffers and modules, named by the fields that hold them. */
export abstract class Module {
  /** This module's own tensors: parameters in the order of the fields, then buffers. */
  *ownState(): Generator<[name: string, tensor: StateTensor]> {
    const own: [string, StateTensor][] = []
    for (const [name, member] of membersOf(this)) if (member instanceof StateTensor) own.push([name, member])
    for (const field of own) if (field[1].role !== 'buffer') yield field
    for (const field of own) if (field[1].role === 'buffer') yield field
  }

  /** The sub-modules, in the order of the fields. */
  *children(): Generator<[name: string, child: Module]> {
    for (const [name, member] of membersOf(this)) if (member instanceof Module) yield [name, member]
  }

  /** Every tensor of the state with its dotted name: own ones first, then those of the children. A tied one has several. */
  *namedState(prefix = ''): Generator<[name: string, tensor: StateTensor]> {
    for (const [name, tensor] of this.ownState()) yield [prefix + name, tensor]
    for (const [name, child] of this.children()) yield* child.namedState(`${prefix}${name}.`)
  }

  /**
   * The parameters, frozen ones among them, with their dotted names. A tied parameter comes once, under its first name.
   * Throws when two tensors have one name.
   */
  *namedParameters(): Generator<[name: string, tensor: Tensor]> {
    for (const [name, tensor] of this.#tensors()) if (tensor.role !== 'buffer') yield [name, tensor]
  }

  /** Every tensor of the state once, under its first name. */
  *#tensors(): Generator<[name: string, tensor: StateTensor]> {
    const seen = new Set<StateTensor>()
    for (const [name, tensor] of this.#state()) {
      if (!seen.has(tensor)) yield [name, tensor]
      seen.add(tensor)
    }
  }

  #state(): Map<string, StateTensor> {
    const state = new Map<string, StateTensor>()
    for (const [name, tensor] of this.namedState()) {
      if (state.has(name))
        throw atCaller(new Error(`${this.constructor.name}: expected a name for each tensor, got two named '${name}'`))
      state.set(name, tensor)
    }
    return state
  }

  /** The trainable parameters: what an optimizer takes. */
  parameters(): Tensor[] {
    return [...this.namedParameters()].flatMap(([, tensor]) => (tensor.requiresGrad ? tensor : []))
  }

  /** Numbers of elements of all state; a tied tensor counts once. */
  countParameters(): ParameterCount {
    const count = { total: 0, trainable: 0, buffers: 0 }
    for (const [, { role, size }] of this.#tensors()) {
      if (role === 'buffer') count.buffers += size
      else count.total += size
      if (role === 'parameter') count.trainable += size
    }
    return count
  }

  /** The live tensors (no copies) under their official names, a tied one under each. Throws when two have one name. */
  stateDict(): Map<string, Tensor> {
    return this.#state()
  }

  /**
   * Copies values into this module's tensors, converted to their dtype. Throws before anything is written, in one line
   * that names the tensors that are missing, extra (`strict: false` allows these two), of another shape, or with more or
   * fewer values than their shape says; of many of a kind the first few.
   */
  loadStateDict(source: StateSource, options: { readonly strict?: boolean } = {}): void {
    check('loadStateDict', 'source', source, aStateSource)
    checkOptions('loadStateDict', options, { strict: aBoolean })
    const { strict = true } = options
    loadInto(this.stateDict(), source, { strict, what: this.constructor.name })
  }

  /**
   * Moves all state and its gradients to another backend, in place, and returns this module. Make optimizers and averages
   * afterwards: theirs stays where it is. Throws before anything is moved where the backend lacks a dtype.
   */
  async to(backend: Backend): Promise<this> {
    check(`${this.constructor.name}.to`, 'backend', backend, aBackend)
    const state = [...this.#tensors()]
    for (const [name, { dtype }] of state)
      if (!backend.dtypes.includes(dtype))
        throw atCaller(
          new Error(
            `${this.constructor.name}.to: expected state in ${backend.dtypes.join(', ')}, which '${backend.name}' has, ` +
              `got ${dtype} in ${name}`,
          ),
        )
    for (const [, tensor] of state) await tensor.moveTo(backend)
    return this
  }

  /** A table of the state: name, shape, number of parameters and bytes of each tensor, then the totals. */
  summary(): string {
    const rows = [...this.#tensors()].map(([name, { shape, dtype, size, role }]) => ({
      name,
      shape,
      dtype,
      size,
      role,
    }))
    return summaryText(this.constructor.name, rows)
  }

  /** Drops all gradients: a parameter that gets none in the next backward is then skipped by the optimizer. */
  zeroGrad(): void {
    zeroGrad(this.parameters())
  }

  /** Frees the state and its gradients. */
  dispose(): void {
    this.zeroGrad()
    for (const [, tensor] of this.namedState()) tensor.dispose()
  }
}

/** A module as an argument. */
export const aModule: Kind = { expected: 'a module', accepts: value => value instanceof Module }
const modules: Kind = {
  expected: 'a list of modules',
  accepts: value => Array.isArray(value) && value.every(aModule.accepts),
}
const layers: Kind = {
  expected: 'a list of layers',
  accepts: value => Array.isArray(value) && value.every(each => aModule.accepts(each) && 'forward' in each),
}
/** A source of a state dict as an argument. */
export const aStateSource: Kind = {
  expected: 'a Map of tensors by name',
  accepts: value =>
    ['get', 'has', 'keys'].every(
      name => typeof (value as Readonly<Record<string, unknown>> | null | undefined)?.[name] === 'function',
    ),
}

/** The tensors and modules in a module's fields: themselves, or in arrays and plain records, as `layers.0`. */
function* membersOf(container: object, prefix = ''): Generator<[name: string, member: StateTensor | Module]> {
  for (const [key, value] of Object.entries(container)) {
    if (value instanceof StateTensor || value instanceof Module) yield [prefix + key, value]
    else if (Array.isArray(value) || isPlain(value)) yield* membersOf(value, `${prefix}${key}.`)
  }
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}

/** Drops the gradients of these tensors. */
export function zeroGrad(parameters: Iterable<Tensor>): void {
  check('zeroGrad', 'parameters', parameters, iterableOf('tensors'))
  for (const tensor of parameters) {
    checkTensor('zeroGrad', 'a parameter', tensor)
    tensor.grad?.dispose()
    tensor.grad = null
  }
}

function few(names: readonly string[]): string {
  return names.length > 10 ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more` : names.join(', ')
}

function loadInto(
  targets: ReadonlyMap<string, Tensor>,
  source: StateSource,
  { what, strict = true }: { readonly what: string; readonly strict?: boolean },
): void {
  const missing = [...targets.keys()].filter(name => !source.has(name))
  const extra = [...source.keys()].filter(name => !targets.has(name))
  const misshapen = [...targets].flatMap(([name, { shape }]) => {
    const got = source.get(name)
    const problem = got && shapeMismatch(got, shape)
    return problem === undefined ? [] : `${name} (${problem})`
  })
  const problems = [
    ...(strict && missing.length > 0 ? [`missing: ${few(missing)}`] : []),
    ...(strict && extra.length > 0 ? [`unexpected: ${few(extra)}`] : []),
    ...(misshapen.length > 0 ? [`of another shape: ${few(misshapen)}`] : []),
  ]
  if (problems.length > 0) throw new ShapeError(`loadStateDict: ${what}: ${problems.join('; ')}`)
  for (const [name, target] of targets) {
    const value = source.get(name)
    if (value !== undefined) overwrite(target, value)
  }
}

/** Copies the values into `target`: on the device from a tensor of the same backend, else through the host. */
function overwrite(target: Tensor, value: Tensor | HostState): void {
  if (value instanceof Tensor && value.backend === target.backend) {
    noGrad(() => scope(() => assign([target], [cast(value, target.dtype)])))
    return
  }
  const values = value instanceof Tensor ? value.dataSync() : value.data
  target.backend.write(target.storage, toTypedArray(target.dtype, values))
}

/** Modules in a row, named '0', '1', … in the state dict. */
export class ModuleList<M extends Module> extends Module implements Iterable<M> {
  readonly items: readonly M[]

  constructor(items: readonly M[]) {
    super()
    check('ModuleList', 'items', items, modules)
    this.items = items
  }

  override *children(): Generator<[string, M]> {
    for (const [i, item] of this.items.entries()) yield [String(i), item]
  }

  /** The modules, in order. */
  [Symbol.iterator](): Iterator<M> {
    return this.items[Symbol.iterator]()
  }

  get length(): number {
    return this.items.length
  }
}

/** A module from a tensor to a tensor. */
export abstract class Layer extends Module {
  /** x → y; shapes are the layer's. */
  abstract forward(x: Tensor): Tensor
}

/** Layers one after the other, named '0', '1', … */
export class Sequential extends ModuleList<Layer> {
  constructor(items: readonly Layer[]) {
    check('Sequential', 'items', items, layers)
    super(items)
  }

  /** x through all layers, in order; shapes are theirs. */
  forward(x: Tensor): Tensor {
    return this.items.reduce((y, layer) => layer.forward(y), x)
  }
}

/** A function without parameters as a layer, so that those behind it in a Sequential get their official numbers. */
export class Activation extends Layer {
  /** The function of every element. */
  readonly f: (x: Tensor) => Tensor

  constructor(f: (x: Tensor) => Tensor) {
    super()
    check('Activation', 'f', f, aFunction)
    this.f = f
  }

  /** f(x), of the shape of x. */
  forward(x: Tensor): Tensor {
    return this.f(x)
  }
}
