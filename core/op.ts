/**
 * One op, one record: what shape it gives, which kernel computes it, what its gradient is and what that needs, and, for
 * a fused op, the plain ops it stands for. `apply` is the only way an op runs: it checks operands, calls the kernel
 * and records the node. Tests walk the registry, so a record brings its own sample inputs.
 * Read next: ops/elementwise.ts for the simplest records, then tape.ts for how gradients flow back.
 */

import { aFunction, check, refuseIntegers, refuseMixed, refuseTensor } from './arguments.ts'
import type { BackendKernels, Spec, Storage } from './backend.ts'
import type { DType } from './dtype.ts'
import { gradEnabled, Node } from './graph.ts'
import type { Sampler } from './samples.ts'
import { checkSizes, type Shape } from './shape.ts'
import { Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'
import type { AnyUpdate } from './update.ts'

/** Inputs of an op of one tensor. */
export type Unary = readonly [Tensor]
/** Inputs of an op of two tensors. */
export type Binary = readonly [Tensor, Tensor]
/** Attributes of an op without attributes. */
export type None = Readonly<Record<string, never>>

type Shapes<X extends readonly Tensor[]> = { readonly [I in keyof X]: Shape }

/** Inputs and attributes on which tests run an op. */
export interface Sample<X extends readonly Tensor[] = readonly Tensor[], A = unknown> {
  readonly x: X
  readonly attrs: A
}

interface Common<X extends readonly Tensor[], A> {
  readonly name: string
  /** The dtype of the result (default: that of the first input). */
  dtype?(x: X, attrs: A): DType
  /**
   * True if the op is exact on i32 and its result stays i32: moves, selections, sums and products. Every other op computes
   * in floats and refuses integers. docs/dtypes.md lists both.
   */
  readonly integers?: true
  /** The operand that indexes or decides, and may have another dtype than the others: which, and what it must have. */
  readonly selector?: { readonly at: number; readonly dtype?: DType }
  /** Required: an op without samples does not compile. Values are f32-representable f64 on `cpu`. */
  samples(r: Sampler): readonly Sample<X, A>[]
  /** Floating-point operations of one call, for `profile` (default: the number of elements of the result). */
  flops?(x: X, attrs: A): number
  /** 'none': no gradient by nature (comparisons, index arithmetic); 'once': kinks, so no second derivative is tested. */
  readonly differentiable?: 'none' | 'once'
}

/** An op with one result. */
export interface Op<X extends readonly Tensor[], A, S extends readonly Tensor[]> extends Common<X, A> {
  /** The shape of the result. Throws ShapeError: op, wanted, got. */
  infer(x: Shapes<X>, attrs: A): Shape
  /** Runs the kernel; undefined where the backend lacks it, and `decompose` is run instead. */
  forward(k: BackendKernels, x: X, attrs: A, out: Spec): Storage | undefined
  /** The same computation in plain ops. */
  decompose?(x: X, attrs: A): Tensor
  /** Exactly the tensors, of any shape, that the tape keeps alive for `vjp`; none by default. */
  save?(x: X, y: Tensor, attrs: A): S
  /** Per input a thunk for its gradient; g has the shape of the result. Only the needed ones run. */
  vjp?(g: Tensor, saved: S, attrs: A, inputShapes: Shapes<X>): readonly (() => Tensor)[]
}

/** An op with several results: the gradient of a fused op, or a split. */
export interface ManyOp<X extends readonly Tensor[], A> extends Common<X, A> {
  readonly many: true
  /** Returns the shapes of the results. Throws ShapeError. */
  infer(x: Shapes<X>, attrs: A): readonly Shape[]
  /** Runs the kernel, or returns undefined where the backend lacks it. */
  forward(k: BackendKernels, x: X, attrs: A): readonly Storage[] | undefined
  /** Computes the same results, each of the shape that `infer` returns, in plain ops. */
  decompose(x: X, attrs: A): readonly Tensor[]
  /**
   * Per input a thunk for its gradient; gs are the gradients of the results, each of its result's shape, undefined where
   * there is none. Nothing is saved for it. Without a vjp the gradient goes through `decompose`.
   */
  vjp?(gs: readonly (Tensor | undefined)[], attrs: A, inputShapes: Shapes<X>): readonly (() => Tensor)[]
}

// The registry and the tape hold ops of all types; `never` inputs make every record assignable without `any`.
/** A record of any op, with its type parameters erased: what the registry and the tape hold. */
export type AnyOp = (Op<never, never, never> | ManyOp<never, never>) & { readonly name: string }

type Untyped = Omit<Op<readonly Tensor[], unknown, readonly Tensor[]>, never> & { readonly many?: undefined }
type UntypedMany = ManyOp<readonly Tensor[], unknown>

/** The record without its type parameters: for the tape, tests and tools, which treat all ops alike. */
export function untyped(op: AnyOp): Untyped | UntypedMany {
  return op as unknown as Untyped | UntypedMany
}

const records = new Map<string, AnyOp>()

/** All ops, by name. */
export function registry(): ReadonlyMap<string, AnyOp> {
  return records
}

function register<O extends { readonly name: string }>(op: O): O {
  if (records.has(op.name)) throw atCaller(new Error(`defineOp: there is an op '${op.name}' already`))
  records.set(op.name, op as unknown as AnyOp)
  return op
}

/** Registers an op with one result. Bundlers leave out the records of unused ops. */
// @__NO_SIDE_EFFECTS__
export function defineOp<X extends readonly Tensor[], A, S extends readonly Tensor[] = readonly []>(
  op: Op<X, A, S>,
): Op<X, A, S> {
  return register(op)
}

/** Registers an op with several results. Bundlers leave out the records of unused ops. */
// @__NO_SIDE_EFFECTS__
export function defineManyOp<X extends readonly Tensor[], A>(op: ManyOp<X, A>): ManyOp<X, A> {
  return register(op)
}

/**
 * Sees every op and update that runs: its record, inputs, results and milliseconds (meaningful where dispatch is
 * execution). The results of an update are the tensors that it wrote.
 */
export type Observer = (
  op: AnyOp | AnyUpdate,
  x: readonly Tensor[],
  attrs: unknown,
  results: readonly Tensor[],
  ms: number,
) => void

let observer: Observer | null = null

/** The observer to tell of what runs; null when there is none. */
export function currentObserver(): Observer | null {
  return observer
}

/** Runs `fn` with `see` called after every op, behind whoever looks on already. */
export function observe<T>(see: Observer, fn: () => T): T {
  check('observe', 'see', see, aFunction)
  check('observe', 'fn', fn, aFunction)
  const before = observer
  const both: Observer = (...seen) => {
    before?.(...seen)
    see(...seen)
  }
  observer = before === null ? see : both
  try {
    return fn()
  } finally {
    observer = before
  }
}

/** Runs an op on inputs that share a backend (and a dtype, unless the op mixes them) and records it. */
export function apply<X extends readonly Tensor[], A, S extends readonly Tensor[]>(
  op: Op<X, A, S>,
  x: X,
  attrs: A,
): Tensor {
  checkOperands(op, x)
  const start = observer === null ? 0 : performance.now()
  const shape = op.infer(shapesOf(x), attrs)
  checkSizes(op.name, shape)
  const spec = { shape, dtype: op.dtype === undefined ? x[0].dtype : op.dtype(x, attrs) }
  const storage = op.forward(x[0].backend.kernels, x, attrs, spec)
  if (storage === undefined) return decomposed(op, op.decompose?.(x, attrs))
  const recorded = op.differentiable !== 'none' && wantsGrad(x)
  const node = recorded ? new Node(op as unknown as AnyOp, attrs, x) : null
  const y = new Tensor(storage, shape, node)
  if (node !== null) node.save(op.vjp === undefined ? x : (op.save?.(x, y, attrs) ?? []))
  if (observer !== null) observer(op as unknown as AnyOp, x, attrs, [y], performance.now() - start)
  return y
}

/** The same for an op with several results. */
export function applyMany<X extends readonly Tensor[], A>(op: ManyOp<X, A>, x: X, attrs: A): readonly Tensor[] {
  checkOperands(op, x)
  const start = observer === null ? 0 : performance.now()
  const shapes = op.infer(shapesOf(x), attrs)
  const storages = op.forward(x[0].backend.kernels, x, attrs)
  if (storages === undefined) return op.decompose(x, attrs)
  const node = wantsGrad(x) ? new Node(op as unknown as AnyOp, attrs, x) : null
  if (op.vjp === undefined) node?.save(x)
  const ys = storages.map((storage, i) => new Tensor(storage, shapes[i], node, i))
  if (observer !== null) observer(op as unknown as AnyOp, x, attrs, ys, performance.now() - start)
  return ys
}

function decomposed<T>(op: { name: string }, result: T | undefined): T {
  if (result === undefined)
    throw atCaller(new Error(`${op.name}: the backend has no kernel and the op no decomposition`))
  return result
}

function shapesOf<X extends readonly Tensor[]>(x: X): Shapes<X> {
  return x.map(t => t.shape) as unknown as Shapes<X>
}

function wantsGrad(x: readonly Tensor[]): boolean {
  if (!gradEnabled()) return false
  for (let i = 0; i < x.length; i++) if (x[i].node !== null) return true
  return false
}

function checkOperands(
  { name, integers, selector }: Pick<Common<never, never>, 'name' | 'integers' | 'selector'>,
  x: readonly Tensor[],
): void {
  for (let i = 0; i < x.length; i++)
    if ((x[i] as Tensor | undefined | null)?.disposed !== false) refuseTensor(name, `operand ${i + 1}`, x[i])
  const { backend } = x[0]
  const { dtype } = x[selector?.at === 0 ? 1 : 0]
  for (let i = 0; i < x.length; i++) {
    const wanted = i === selector?.at ? (selector.dtype ?? x[i].dtype) : dtype
    if (x[i].backend === backend && x[i].dtype === wanted) continue
    const rule = selector?.dtype === undefined ? '' : `, and ${selector.dtype} as operand ${selector.at + 1}`
    refuseMixed(name, x, rule)
  }
  if (dtype === 'i32' && integers !== true) refuseIntegers(name)
}
