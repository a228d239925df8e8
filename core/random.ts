/**
 * Random numbers: Philox 4x32-10, a counter-based generator [Philox]. A draw is a pure function of (seed, key, counter),
 * so a resumed run draws what the unbroken run would have drawn. Numbers are made on the host from integer arithmetic
 * and + − × ÷ √ alone, which IEEE 754 rounds in one way only: the bits are the same in every engine and on every backend.
 * Every value takes a fixed number of words, and f64 tensors hold the f32 draws, so a seed means the same numbers in
 * either precision.
 */

import { aBackend, aDType, aNumber, check, checkOptions, type Kind, numbers } from './arguments.ts'
import type { Backend } from './backend.ts'
import type { DType } from './dtype.ts'
import { checkSizes, type Shape, sizeOf } from './shape.ts'
import { createTensor, type Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

/** Two 32-bit words, low word first. */
export type Words = readonly [number, number]

/** Where a drawn tensor lives. */
export interface SampleOptions {
  readonly dtype?: DType
  readonly backend?: Backend
}

/** Where a stream stands, as plain JSON. */
export interface RngState {
  readonly seed: number
  /** [0, 0] for the stream of `rng(seed)`; forks have their own. */
  readonly key: Words
  /** Blocks of four words drawn so far. */
  readonly counter: number
}

/**
 * Philox 4x32-10: `blocks` blocks of four 32-bit words. Block i is ten rounds, under the key `seed`, of the 128-bit
 * counter `from`, words low to high, with i added to its lower 64 bits. [Philox §3.3]
 */
export function philox(seed: Words, from: readonly [...Words, ...Words], blocks: number): Uint32Array {
  const out = new Uint32Array(4 * blocks)
  for (let i = 0; i < blocks; i++) {
    const low = (from[0] >>> 0) + i
    let c0 = low | 0
    let c1 = (from[1] + Math.floor(low / 0x100000000)) | 0
    let c2 = from[2] | 0
    let c3 = from[3] | 0
    let k0 = seed[0] | 0
    let k1 = seed[1] | 0
    for (let round = 0; round < 10; round++) {
      const high0 = multiplyHigh(0xd2511f53, c0)
      const high2 = multiplyHigh(0xcd9e8d57, c2)
      const low0 = Math.imul(0xd2511f53, c0)
      c0 = high2 ^ c1 ^ k0
      c1 = Math.imul(0xcd9e8d57, c2)
      c2 = high0 ^ c3 ^ k1
      c3 = low0
      k0 = (k0 + 0x9e3779b9) | 0
      k1 = (k1 + 0xbb67ae85) | 0
    }
    out[4 * i] = c0
    out[4 * i + 1] = c1
    out[4 * i + 2] = c2
    out[4 * i + 3] = c3
  }
  return out
}

/** The upper 32 bits of a 64-bit product of unsigned words, from 16-bit halves: JavaScript multiplies 32 bits at most. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0
  const carry = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) | 0
}

/** The words of a non-negative safe integer. Throws RangeError. */
function wordsOf(what: string, value: number): Words {
  if (!Number.isSafeInteger(value) || value < 0)
    throw atCaller(new RangeError(`${what}: expected an integer in [0, 2^53), got ${value}`))
  return [value >>> 0, Math.floor(value / 0x100000000)]
}

/** A stream of random numbers. Each draw begins at a new block of four words and advances `counter` past those it used. */
export class Rng {
  #seed: number
  #key: Words
  #counter: number

  constructor(state: RngState) {
    this.#seed = state.seed
    this.#key = state.key
    this.#counter = state.counter
    this.restore(state)
  }

  /** `n` uniform 32-bit words. */
  words(n: number): Uint32Array {
    const blocks = Math.ceil(n / 4)
    const out = philox(wordsOf('seed', this.#seed), [...wordsOf('counter', this.#counter), ...this.#key], blocks)
    this.#counter += blocks
    return out.subarray(0, n)
  }

  /** `n` numbers uniform on the multiples of 2^-24 in [0, 1); one word each. */
  uniformArray(n: number): Float32Array {
    const words = this.words(n)
    const out = new Float32Array(n)
    for (let i = 0; i < n; i++) out[i] = (words[i] >>> 8) / 0x1000000
    return out
  }

  /** `n` standard normal numbers, |z| < 6.34; one word each, so that value i depends on word i alone. */
  normalArray(n: number): Float32Array {
    const words = this.words(n)
    const out = new Float32Array(n)
    for (let i = 0; i < n; i++) out[i] = normalOfWord(words[i])
    return out
  }

  /**
   * `n` integers uniform on [low, high), both within i32 (high may be 2^31); two words each, so that probabilities are
   * even to 2^-53. Throws RangeError.
   */
  integersArray(low: number, high: number, n: number): Int32Array {
    if (!Number.isInteger(low) || !Number.isInteger(high) || low >= high || low < -0x80000000 || high > 0x80000000)
      throw atCaller(new RangeError(`integers: expected low < high, both i32, got low ${low}, high ${high}`))
    const words = this.words(2 * n)
    const out = new Int32Array(n)
    for (let i = 0; i < n; i++) out[i] = low + below(high - low, words[2 * i], words[2 * i + 1])
    return out
  }

  /** 0 … n − 1 in a uniformly random order (Fisher and Yates); two words for each element but one. */
  permutationArray(n: number): Int32Array {
    const out = Int32Array.from({ length: n }, (_, i) => i)
    const words = this.words(2 * Math.max(n - 1, 0))
    for (let i = n - 1; i > 0; i--) {
      const j = below(i + 1, words[2 * i - 2], words[2 * i - 1])
      const swapped = out[i]
      out[i] = out[j]
      out[j] = swapped
    }
    return out
  }

  /** Uniform on [0, 1) as in `uniformArray`; f32 by default. */
  uniform(shape: Shape, options: SampleOptions = {}): Tensor {
    checkSample('uniform', shape, options)
    return createTensor('uniform', this.uniformArray(sizeOf(shape)), { shape, ...options })
  }

  /** Standard normal as in `normalArray`; f32 by default. */
  normal(shape: Shape, options: SampleOptions = {}): Tensor {
    checkSample('normal', shape, options)
    return createTensor('normal', this.normalArray(sizeOf(shape)), { shape, ...options })
  }

  /** Uniform on the integers of [low, high) as in `integersArray`; i32 by default. Throws RangeError. */
  integers(low: number, high: number, shape: Shape, options: SampleOptions = {}): Tensor {
    checkSample('integers', shape, options)
    return createTensor('integers', this.integersArray(low, high, sizeOf(shape)), { shape, dtype: 'i32', ...options })
  }

  /** 0 … n − 1 in a random order, (n); i32 by default. */
  permutation(n: number, options: SampleOptions = {}): Tensor {
    check('permutation', 'n', n, aNumber)
    checkSample('permutation', [n], options)
    return createTensor('permutation', this.permutationArray(n), { shape: [n], dtype: 'i32', ...options })
  }

  /**
   * An independent stream named by `name`, at its beginning. It depends on seed, key and name only, not on what was
   * drawn, and draws nothing: `rng.fork(7)` is the same stream before and after. Throws RangeError on a number that is
   * not an integer in [0, 2^53).
   */
  fork(name: string | number): Rng {
    // Word by word, key ← the first half of philox(word, key). The first word tells type and length, so one name's chain
    // never begins with another's.
    const inputs =
      typeof name === 'number'
        ? [0, ...wordsOf('fork', name)]
        : [name.length + 1, ...Array.from({ length: name.length }, (_, i) => name.charCodeAt(i))]
    let key = this.#key
    for (const word of inputs) {
      // The second counter word stays below 2^21 in draws, so no fork shares a block with a draw.
      const [low, high] = philox(wordsOf('seed', this.#seed), [word, 0x80000000, ...key], 1)
      key = [low, high]
    }
    return new Rng({ seed: this.#seed, key, counter: 0 })
  }

  /** Where the stream stands; `restore` goes back there. */
  state(): RngState {
    return { seed: this.#seed, key: this.#key, counter: this.#counter }
  }

  /** Continues from `state`. Throws RangeError when it is no state of a stream. */
  restore(state: RngState): void {
    wordsOf('rng: seed', state.seed)
    wordsOf('rng: counter', state.counter)
    const [low, high] = state.key
    if (state.key.length !== 2 || low >>> 0 !== low || high >>> 0 !== high)
      throw atCaller(new RangeError(`rng: key: expected two 32-bit words, got [${state.key.join(', ')}]`))
    this.#seed = state.seed
    this.#key = [low, high]
    this.#counter = state.counter
  }
}

/** A stream of random numbers as an argument. */
export const aStream: Kind = { expected: 'a stream of random numbers', accepts: value => value instanceof Rng }

/** Throws unless these are a shape and the options of a draw. */
function checkSample(op: string, shape: Shape, options: SampleOptions): void {
  check(op, 'shape', shape, numbers)
  checkSizes(op, shape)
  checkOptions(op, options, { dtype: aDType, backend: aBackend })
}

/** The stream of `seed`, an integer in [0, 2^53), at its beginning. Throws RangeError. */
export function rng(seed: number): Rng {
  return new Rng({ seed, key: [0, 0], counter: 0 })
}

/** An integer uniform on [0, range), range ≤ 2^32, from the upper 53 bits of two words. */
function below(range: number, low: number, high: number): number {
  return Math.floor(((high * 0x200000 + (low >>> 11)) / 2 ** 53) * range)
}

// Φ⁻¹(p) as quotients of polynomials of degree 7, highest coefficient first: algorithm PPND16 of [AS241], of relative
// error 1e-16. Where p > 0.075 in the variable 0.425² − (p − ½)²,
const CENTRE_ABOVE = [
  2509.0809287301227, 33430.57558358813, 67265.7709270087, 45921.95393154987, 13731.69376550946, 1971.5909503065513,
  133.14166789178438, 3.3871328727963665,
] as const
const CENTRE_BELOW = [
  5226.495278852854, 28729.085735721943, 39307.89580009271, 21213.794301586597, 5394.196021424751, 687.1870074920579,
  42.31333070160091, 1,
] as const
// and in the tail in √(−ln p) − 1.6. Its formula ends where √(−ln p) = 5, p = 1.4e-11; 32-bit words end at p = 2^-33.
const TAIL_ABOVE = [
  0.0007745450142783414, 0.022723844989269184, 0.2417807251774506, 1.2704582524523684, 3.6478483247632045,
  5.769497221460691, 4.630337846156546, 1.4234371107496835,
] as const
const TAIL_BELOW = [
  1.0507500716444169e-9, 0.0005475938084995345, 0.015198666563616457, 0.14810397642748008, 0.6897673349851,
  1.6763848301838038, 2.053191626637759, 1,
] as const

type Coefficients = readonly [number, number, number, number, number, number, number, number]

/** Horner's rule. */
function polynomial(c: Coefficients, x: number): number {
  return ((((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]) * x + c[6]) * x + c[7]
}

/** A standard normal number from a 32-bit word: Φ⁻¹((word + ½) / 2^32), by symmetry from the smaller of p and 1 − p. */
export function normalOfWord(word: number): number {
  const fromMiddle = (word + 0.5) / 0x100000000 - 0.5 // exact: p − ½
  if (Math.abs(fromMiddle) <= 0.425) {
    const x = 0.180625 - fromMiddle * fromMiddle
    return (fromMiddle * polynomial(CENTRE_ABOVE, x)) / polynomial(CENTRE_BELOW, x)
  }
  const odd = 2 * (word < 0x80000000 ? word : 0xffffffff - word) + 1 // min(p, 1 − p) = odd · 2^-33
  const x = Math.sqrt(minusLog(odd)) - 1.6
  const z = polynomial(TAIL_ABOVE, x) / polynomial(TAIL_BELOW, x)
  return fromMiddle < 0 ? -z : z
}

/** −ln(n · 2^-33) for an integer n in [1, 2^31), to 1e-15: n = 2^e · f, ln f = 2 artanh((f − 1) / (f + 1)). */
function minusLog(n: number): number {
  const e = 31 - Math.clz32(n)
  const f = n / (1 << e) // in [1, 2)
  const s = (f - 1) / (f + 1) // at most 1/3
  const s2 = s * s
  let series = 0
  for (let k = 33; k >= 1; k -= 2) series = series * s2 + 1 / k
  return (33 - e) * Math.LN2 - 2 * s * series
}
