/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The tensor: a handle on contiguous memory of some backend, with a shape, an element type and, when it is part of a
 * recorded computation, the graph node that made it. What can be done with tensors is in core/ops/; who frees them is
 * scope.ts. A tensor made outside every scope lives until `dispose()`.
 */

import {
  aBackend,
  aBoolean,
  aDType,
  aFunction,
  aNumber,
  check,
  checkOptions,
  checkTensor,
  numbers,
} from './arguments.ts'
import type { Backend, Operand, Storage } from './backend.ts'
import { defaultBackend } from './default-backend.ts'
import { type DType, type TypedArray, toNumber, toTypedArray } from './dtype.ts'
import { Node } from './graph.ts'
import { addHook, type GradientHook } from './hooks.ts'
import { headerOf, textOf } from './print.ts'
import { adopt, type Scoped, scopedBrand } from './scope.ts'
import { checkSizes, type Shape, ShapeError, sameShape, show, sizeOf } from './shape.ts'
import { atCaller } from './traceback.ts'

/** The method by which Node's `console.log` and `util.inspect` show an object. */
const inspect: unique symbol = Symbol.for('nodejs.util.inspect.custom')

let live = 0

/** Number of tensor handles that were not disposed. */
export function liveTensors(): number {
  return live
}

export class Tensor implements Operand, Scoped {
  readonly shape: Shape
  readonly dtype: DType
  /** Which output of `node` this is. */
  readonly outputIndex: number
  /** Not freed by scopes: parameters, their gradients, optimizer and EMA state. */
  persistent = false
  /** For a leaf that requires a gradient: the gradient that `backward` has accumulated. */
  grad: Tensor | null = null
  #storage: Storage | null
  #node: Node | null

  /** Takes one hold on `storage`. Used by backends' callers and ops; people use `tensor`, `zeros`, … */
  constructor(storage: Storage, shape: Shape, node: Node | null = null, outputIndex = 0) {
    this.shape = shape
    this.dtype = storage.dtype
    this.outputIndex = outputIndex
    this.#storage = storage
    storage.holds++
    live++
    this.#node = node
    node?.hold()
    adopt(this)
  }

  /** Throws after `dispose`. */
  get storage(): Storage {
    if (this.#storage === null)
      throw atCaller(new Error(`Tensor: use after dispose of a ${this.dtype} tensor of shape ${show(this.shape)}`))
    return this.#storage
  }

  get [scopedBrand](): true {
    return true
  }

  get backend(): Backend {
    return this.storage.backend
  }

  get size(): number {
    return sizeOf(this.shape)
  }

  /** The node that made this value; a leaf's own node when it requires a gradient; else null. */
  get node(): Node | null {
    return this.#node
  }

  get requiresGrad(): boolean {
    return this.node !== null
  }

  get disposed(): boolean {
    return this.#storage === null
  }

  /** A copy of the elements, row-major. */
  async data(): Promise<TypedArray> {
    return this.backend.read(this.storage)
  }

  /** The same at once, where the backend can. */
  dataSync(): TypedArray {
    const { backend } = this
    if (backend.readSync === undefined)
      throw atCaller(
        new Error(
          `dataSync: backend '${backend.name}' reads asynchronously; await data(), ` +
            'and move x with tensor(await x.data(), { shape: x.shape, backend })',
        ),
      )
    return backend.readSync(this.storage)
  }

  /** The only element. Throws ShapeError when there are more. */
  async item(): Promise<number> {
    if (this.size !== 1) throw new ShapeError(`item: expected one element, got shape ${show(this.shape)}`)
    return (await this.data())[0]
  }

  /** The only element, where the backend reads synchronously. Throws ShapeError when there are more. */
  itemSync(): number {
    if (this.size !== 1) throw new ShapeError(`itemSync: expected one element, got shape ${show(this.shape)}`)
    return this.dataSync()[0]
  }

  /** The same memory, outside the recorded computation. */
  detach(): Tensor {
    return new Tensor(this.storage, this.shape)
  }

  /** Another handle on the same value, with its place in the graph. */
  alias(): Tensor {
    return new Tensor(this.storage, this.shape, this.node, this.outputIndex)
  }

  /**
   * Makes this tensor a leaf, whose gradient `backward` accumulates in `.grad`, and returns it. For the result of a
   * recorded op, which stays what it is, returns a new leaf on the same memory. `required: false` makes a leaf a constant
   * again and frees its gradient. Throws on integers.
   */
  requireGrad(required = true): Tensor {
    check('requireGrad', 'required', required, aBoolean)
    if (!required) return this.#becomeConstant()
    if (this.dtype === 'i32')
      throw atCaller(new Error(`requireGrad: expected f32 or f64, got i32 of shape ${show(this.shape)}`))
    if (this.node?.leaf === this) return this
    if (this.node !== null) return this.detach().requireGrad()
    this.#node = Node.ofLeaf(this)
    this.#node.hold()
    return this
  }

  #becomeConstant(): Tensor {
    if (this.node === null) return this
    if (this.node.leaf !== this) return this.detach()
    this.grad?.dispose()
    this.grad = null
    this.node.drop()
    this.#node = null
    return this
  }

  /**
   * Calls `hook` with the gradient of this tensor, of its shape, whenever `backward`, `gradients` or `grad` has computed
   * it, before it flows on or is added to `.grad`. A tensor that the hook returns takes its place. The gradient is freed
   * after the call: copy or persist what you keep. Returns a function that removes the hook. Throws if the tensor
   * requires no gradient.
   */
  registerHook(hook: GradientHook): () => void {
    check('registerHook', 'hook', hook, aFunction)
    if (this.node === null)
      throw atCaller(
        new Error(`registerHook: expected a tensor that requires a gradient, got one of shape ${show(this.shape)}`),
      )
    return addHook(this.node, this.outputIndex, hook)
  }

  /** Scopes leave this tensor alone from now on. */
  persist(): this {
    this.persistent = true
    return this
  }

  /**
   * Drops this handle, and a leaf's gradient with it; the memory goes with its last hold, and what a recorded computation
   * saved for its gradient with the last result that leads there. Idempotent.
   */
  dispose(): void {
    const storage = this.#storage
    if (storage === null) return
    this.#storage = null
    live--
    release(storage)
    this.node?.drop()
    this.grad?.dispose()
  }

  /** Disposes; called by `using`. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** Dtype, shape, backend and values, in NumPy's layout. Long axes are elided. */
  toString(): string {
    return textOf(this)
  }

  /** Text for Node's console, or its first line inside of deeply nested objects. */
  [inspect](depth: number): string {
    return depth < 0 ? `[${headerOf(this)}]` : textOf(this)
  }

  /** The text for a string. Throws for a number: operators do not compute with tensors. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return textOf(this)
    const got = `got an operator on a ${this.dtype} tensor of shape ${show(this.shape)}`
    if (hint === 'default')
      throw atCaller(new TypeError(`Tensor: expected add(a, b) for a + b and equal(a, b) for a == b, ${got}`))
    throw atCaller(
      new TypeError(
        `Tensor: expected a function such as sub(a, b), mul(a, b), div(a, b), pow(a, b) or less(a, b), or x.itemSync(), ${got}`,
      ),
    )
  }

  /** Takes over the memory of `source` (same shape, dtype and backend), as optimizers do with new weights. */
  replaceWith(source: Tensor): void {
    checkTensor('replaceWith', 'source', source)
    const [before, after] = [this.storage, source.storage]
    if (after.dtype !== this.dtype || after.backend !== before.backend || !sameShape(source.shape, this.shape))
      throw new ShapeError(
        `replaceWith: expected ${this.dtype} ${show(this.shape)} on ${before.backend.name}, ` +
          `got ${after.dtype} ${show(source.shape)} on ${after.backend.name}`,
      )
    this.#take(after)
  }

  /**
   * Moves the elements to another backend, with those of a gradient, and returns this tensor, which stays the same leaf.
   * Views and detached handles stay where they are. Throws on the result of a recorded op, and where the backend lacks the
   * dtype.
   */
  async moveTo(backend: Backend): Promise<this> {
    check('moveTo', 'backend', backend, aBackend)
    if (this.node !== null && this.node.leaf !== this)
      throw atCaller(new Error(`moveTo: expected a leaf, got a result of ${this.node.name}; call to(x, { backend })`))
    if (this.backend === backend) return this
    checkSpec('moveTo', this.shape, this.dtype, backend)
    const values = await this.data()
    const storage = backend.alloc(this.dtype, values.length)
    backend.write(storage, values)
    this.#take(storage)
    await this.grad?.moveTo(backend)
    return this
  }

  #take(storage: Storage): void {
    const before = this.storage
    storage.holds++
    this.#storage = storage
    release(before)
  }
}

function release(storage: Storage): void {
  if (--storage.holds === 0) storage.backend.free(storage)
}

/** Where and how a new tensor is made. The defaults are f32 on the default backend. */
export interface TensorOptions {
  readonly dtype?: DType
  readonly backend?: Backend
  readonly shape?: Shape
}

/** A number, or lists of them of any depth: 1, [1, 2], [[1, 2], [3, 4]]. */
export type NestedNumbers = number | ArrayLike<number> | readonly NestedNumbers[]

/**
 * A tensor of the given numbers: a number, nested arrays, or flat values with `shape`. Throws ShapeError, and an error
 * where the backend lacks the dtype.
 */
export function tensor(values: NestedNumbers, options: TensorOptions = {}): Tensor {
  return createTensor('tensor', values, options)
}

const optionKinds = { dtype: aDType, backend: aBackend, shape: numbers }
export const placeKinds = { dtype: aDType, backend: aBackend }

/** `tensor` in the name of another function. */
export function createTensor(op: string, values: NestedNumbers, options: TensorOptions): Tensor {
  checkOptions(op, options, optionKinds)
  const flat: ArrayLike<number> = isFlat(values) ? values : []
  const shape = options.shape ?? nestedShape(values)
  const data = isFlat(values) ? flat : flatten(values, nestedShape(values))
  if (data.length !== sizeOf(shape))
    throw new ShapeError(`${op}: expected ${sizeOf(shape)} elements for shape ${show(shape)}, got ${data.length}`)
  const { dtype = 'f32', backend = defaultBackend() } = options
  checkSpec(op, shape, dtype, backend)
  const storage = backend.alloc(dtype, data.length)
  backend.write(storage, toTypedArray(dtype, data))
  return new Tensor(storage, shape)
}

function checkSpec(op: string, shape: Shape, dtype: DType, backend: Backend): void {
  checkSizes(op, shape)
  if (!backend.dtypes.includes(dtype))
    throw atCaller(
      new Error(`${op}: expected one of ${backend.dtypes.join(', ')}, which '${backend.name}' has, got ${dtype}`),
    )
}

function isFlat(values: NestedNumbers): values is ArrayLike<number> {
  return ArrayBuffer.isView(values)
}

/** Throws ShapeError on what is neither a number nor an array, as untyped input may be. */
function checkNested(values: unknown): void {
  const isArray = typeof values === 'object' && typeof (values as ArrayLike<unknown> | null)?.length === 'number'
  if (typeof values !== 'number' && !isArray)
    throw new ShapeError(`tensor: expected numbers, or nested arrays of them, got ${JSON.stringify(values)}`)
}

function nestedShape(values: NestedNumbers): number[] {
  checkNested(values)
  if (typeof values === 'number') return []
  if (isFlat(values) || values.length === 0) return [values.length]
  const inner = nestedShape(values[0] as NestedNumbers)
  return [values.length, ...inner]
}

/** All numbers of nested arrays that have `shape` throughout. Throws ShapeError. */
function flatten(values: NestedNumbers, shape: Shape, axis = 0, into: number[] = []): number[] {
  checkNested(values)
  const wanted = shape[axis] as number | undefined
  const got = typeof values === 'number' ? undefined : values.length
  if (got !== wanted) {
    const say = (length: number | undefined) => (length === undefined ? 'a number' : `an array of ${length}`)
    throw new ShapeError(`tensor: expected nested arrays of equal lengths, got ${say(got)} beside ${say(wanted)}`)
  }
  if (typeof values === 'number') into.push(values)
  else for (let i = 0; i < values.length; i++) flatten(values[i] as NestedNumbers, shape, axis + 1, into)
  return into
}

/** All elements `value`, converted to the dtype as `tensor` does. Throws ShapeError, and an error where the backend lacks the dtype. */
export function full(shape: Shape, value: number, options: Omit<TensorOptions, 'shape'> = {}): Tensor {
  check('full', 'value', value, aNumber)
  return filled('full', shape, value, options)
}

/** `full` in the name of another function. */
export function filled(op: string, shape: Shape, value: number, options: Omit<TensorOptions, 'shape'>): Tensor {
  check(op, 'shape', shape, numbers)
  checkOptions(op, options, placeKinds)
  const { dtype = 'f32', backend = defaultBackend() } = options
  checkSpec(op, shape, dtype, backend)
  return new Tensor(backend.kernels.fill(toNumber(dtype, value), { shape, dtype }), shape)
}

/** A tensor of this shape, all 0. */
export function zeros(shape: Shape, options: Omit<TensorOptions, 'shape'> = {}): Tensor {
  return filled('zeros', shape, 0, options)
}

/** A tensor of this shape, all 1. */
export function ones(shape: Shape, options: Omit<TensorOptions, 'shape'> = {}): Tensor {
  return filled('ones', shape, 1, options)
}

/** 0, 1, …, n − 1. Throws ShapeError unless n is an integer from 0. */
export function arange(n: number, options: Omit<TensorOptions, 'shape'> = {}): Tensor {
  check('arange', 'n', n, aNumber)
  checkSizes('arange', [n])
  checkOptions('arange', options, placeKinds)
  return createTensor(
    'arange',
    Float64Array.from({ length: n }, (_, i) => i),
    options,
  )
}
