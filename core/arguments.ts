/**
 * Checks of the arguments of public functions, which plain JavaScript may call with anything. Each line of a check names
 * the function, the argument and its kind; an error reads `op: expected …, got …`. Operands that go straight to an op are
 * checked by `apply`.
 */

import { scopedBrand } from './scope.ts'
import { show } from './shape.ts'
import type { Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

/** A kind of argument. */
export interface Kind {
  /** With its article, as an error names it: 'a number'. */
  readonly expected: string
  accepts(value: unknown): boolean
}

const isNumber = (value: unknown) => typeof value === 'number'
const isInteger = (value: unknown, least: number) => Number.isInteger(value) && (value as number) >= least
const isTypedArray = (value: unknown): value is ArrayLike<unknown> =>
  ArrayBuffer.isView(value) && !(value instanceof DataView)
const isList = (value: unknown): value is ArrayLike<unknown> => Array.isArray(value) || isTypedArray(value)
const isListOf = (accepts: (value: unknown) => boolean) => (value: unknown) =>
  isList(value) && Array.prototype.every.call(value, accepts)

export const aTensor: Kind = { expected: 'a tensor', accepts: isTensor }
export const aNumber: Kind = { expected: 'a number', accepts: isNumber }
export const aFiniteNumber: Kind = { expected: 'a finite number', accepts: Number.isFinite }
export const anInteger: Kind = { expected: 'an integer', accepts: Number.isInteger }
/** A number of elements. */
export const aSize: Kind = { expected: 'an integer from 0', accepts: value => isInteger(value, 0) }
/** A number of things of which there is at least one. */
export const aCount: Kind = { expected: 'an integer from 1', accepts: value => isInteger(value, 1) }
export const aBoolean: Kind = { expected: 'true or false', accepts: value => typeof value === 'boolean' }
export const aString: Kind = { expected: 'a string', accepts: value => typeof value === 'string' }
export const aFunction: Kind = { expected: 'a function', accepts: value => typeof value === 'function' }
export const anObject: Kind = { expected: 'an object', accepts: isObject }
export const aDType: Kind = oneOf(['f32', 'f64', 'i32'])
export const aBackend: Kind = {
  expected: 'a backend',
  accepts: value => isObject(value) && 'kernels' in value,
}
/** Named tensors, for example. */
export const aMap: Kind = { expected: 'a Map by name', accepts: value => value instanceof Map }
export const aUint8Array: Kind = { expected: 'a Uint8Array', accepts: value => value instanceof Uint8Array }
export const tensors: Kind = { expected: 'a list of tensors', accepts: isListOf(isTensor) }
export const numbers: Kind = {
  expected: 'a list of numbers',
  accepts: value => (isTypedArray(value) ? typeof value[0] !== 'bigint' : isListOf(isNumber)(value)),
}

export const integers: Kind = {
  expected: 'a list of integers',
  accepts: value => value instanceof Int32Array || isListOf(Number.isInteger)(value),
}
export const strings: Kind = {
  expected: 'a list of strings',
  accepts: isListOf(value => typeof value === 'string'),
}

export const tensorOrNumber: Kind = either(aTensor, aNumber)

/** An iterable, such as an array, a Set or a generator. Its items are checked where they are read. */
export function iterableOf(items: string): Kind {
  return {
    expected: `an iterable of ${items}`,
    accepts: value => typeof value === 'object' && value !== null && Symbol.iterator in value && !isTensor(value),
  }
}

/** An array of things of a kind. */
export function arrayOf(expected: string, kind: Kind): Kind {
  return { expected, accepts: value => Array.isArray(value) && value.every(kind.accepts) }
}

/** A list of numbers that has one of these lengths. */
export function listOf(...lengths: readonly number[]): Kind {
  return {
    expected: `a list of ${lengths.join(' or ')} numbers`,
    accepts: value => Array.isArray(value) && lengths.includes(value.length) && value.every(isNumber),
  }
}

/** One of some strings. */
export function oneOf(values: readonly string[]): Kind {
  return {
    expected: `one of ${values.map(value => `'${value}'`).join(', ')}`,
    accepts: value => values.includes(value as string),
  }
}

/** An instance of a class; `expected` names it, with its article. */
export function instanceOf(expected: string, type: abstract new (...args: never[]) => unknown): Kind {
  return { expected, accepts: value => value instanceof type }
}

/** An object with properties of these kinds, and any others. */
export function objectWith(expected: string, kinds: Readonly<Record<string, Kind>>): Kind {
  const properties = Object.entries(kinds)
  return {
    expected,
    accepts: value =>
      isObject(value) && properties.every(([name, kind]) => kind.accepts((value as Record<string, unknown>)[name])),
  }
}

/** One kind or another. */
export function either(...kinds: readonly Kind[]): Kind {
  return {
    expected: kinds.map(({ expected }) => expected).join(' or '),
    accepts: value => kinds.some(kind => kind.accepts(value)),
  }
}

/** The kind, or null. */
export function orNull(kind: Kind): Kind {
  return { expected: `${kind.expected} or null`, accepts: value => value === null || kind.accepts(value) }
}

/** The kind, or undefined. */
export function optional(kind: Kind): Kind {
  return { expected: kind.expected, accepts: value => value === undefined || kind.accepts(value) }
}

/** True for tensors, disposed ones included. */
export function isTensor(value: unknown): value is Tensor {
  return (value as Tensor | undefined | null)?.[scopedBrand] === true
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !isList(value) && !isTensor(value)
}

/** A value as an error names it: a tensor with its shape, an array with its length. */
export function describe(value: unknown): string {
  if (isTensor(value)) return `${value.disposed ? 'a disposed' : 'a'} tensor of shape ${show(value.shape)}`
  if (typeof value === 'string') return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value))
    return value.length <= 8 && value.every(isNumber) ? show(value) : `an array of ${value.length}`
  if (typeof value !== 'object' || value === null) return String(value)
  const name = Object.getPrototypeOf(value)?.constructor?.name ?? 'Object'
  return name === 'Object' ? 'an object' : `an instance of ${name}`
}

/** Throws TypeError unless the argument `name` of `op` is of a kind. */
export function check(op: string, name: string, value: unknown, kind: Kind): void {
  if (!kind.accepts(value)) refuse(op, name, kind, value)
}

/** Throws unless the argument is a tensor that was not disposed. */
export function checkTensor(op: string, name: string, x: Tensor): void {
  if ((x as Tensor | undefined | null)?.[scopedBrand] !== true || x.disposed) refuseTensor(op, name, x)
}

/** Throws unless all arguments are tensors that were not disposed, on one backend. */
export function checkTensors(op: string, named: Readonly<Record<string, Tensor>>): void {
  let first: Tensor | null = null
  for (const name in named) {
    checkTensor(op, name, named[name])
    first ??= named[name]
    if (named[name].backend !== first.backend) refuseMixed(op, Object.values(named))
  }
}

/** Throws unless all arguments are tensors that were not disposed, on one backend and of one dtype. */
export function checkOneDType(op: string, named: Readonly<Record<string, Tensor>>): void {
  checkTensors(op, named)
  const all = Object.values(named)
  if (all.some(({ dtype }) => dtype !== all[0].dtype)) refuseMixed(op, all)
}

/** Throws unless all arguments are tensors that were not disposed, on one backend and of one float dtype. */
export function checkFloats(op: string, named: Readonly<Record<string, Tensor>>): void {
  checkOneDType(op, named)
  for (const name in named) if (named[name].dtype === 'i32') refuseIntegers(op)
}

/** Throws TypeError unless `options` is an object whose properties are among `kinds` and of these kinds, and that has those of `required`. */
export function checkOptions<O extends object>(
  op: string,
  options: O,
  kinds: { readonly [K in keyof O]-?: Kind },
  required: readonly (keyof O & string)[] = [],
): void {
  if (!isObject(options)) refuse(op, 'options', anObject, options)
  for (const name in options) {
    const value = options[name]
    if (!Object.hasOwn(kinds, name))
      throw atCaller(new TypeError(`${op}: expected options among ${Object.keys(kinds).join(', ')}, got '${name}'`))
    if (value !== undefined && !kinds[name].accepts(value)) refuse(op, name, kinds[name], value)
  }
  for (const name of required) check(op, name, options[name], kinds[name])
}

/**
 * Throws TypeError unless `options` is an object whose properties that `kinds` names are of these kinds. Others are not looked
 * at: for functions that take their options from the settings of a run.
 */
export function checkFields<O extends object>(
  op: string,
  options: O,
  kinds: { readonly [K in keyof O]-?: Kind },
): void {
  if (!isObject(options)) refuse(op, 'options', anObject, options)
  for (const name in kinds) {
    const value = options[name]
    if (value !== undefined && !kinds[name].accepts(value)) refuse(op, name, kinds[name], value)
  }
}

function refuse(op: string, name: string, { expected }: Kind, value: unknown): never {
  throw atCaller(new TypeError(`${op}: expected ${name} to be ${expected}, got ${describe(value)}`))
}

/** Throws what is wrong with an operand that is no tensor, or a disposed one. */
export function refuseTensor(op: string, name: string, x: unknown): never {
  if (!isTensor(x)) refuse(op, name, aTensor, x)
  throw atCaller(new Error(`${op}: use after dispose of a ${x.dtype} tensor of shape ${show(x.shape)}`))
}

/** Throws on operands of several backends or dtypes; `rule` says what else is expected. */
export function refuseMixed(op: string, operands: readonly Tensor[], rule = ''): never {
  const got = operands.map(t => `${t.dtype} on ${t.backend.name}`).join(', ')
  throw atCaller(
    new Error(
      `${op}: expected operands of one backend and dtype${rule}, got ${got}; move one with to(x, { backend, dtype })`,
    ),
  )
}

/** Throws on integers in an op that computes in floats. */
export function refuseIntegers(op: string): never {
  throw atCaller(new Error(`${op}: expected a float dtype, got i32; convert with to(x, { dtype: 'f32' })`))
}
