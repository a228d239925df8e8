/**
 * Turns a valid file into an invalid one: bytes changed, cut, doubled, or replaced by values that break parsers. A pure
 * function of the random numbers it is given. Used by run.ts.
 */

import type { Rng } from '../../core/random.ts'

/** Lengths and counts that parsers trust too easily, as little- and big-endian words of 2, 4 and 8 bytes. */
const extremes = [
  0n,
  1n,
  0x7fn,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  0x7fffffffffffffffn,
  0xffffffffffffffffn,
]

/** Text that JSON, headers and names may hold. */
const words = [
  'null',
  '-1',
  '1e999',
  '9007199254740993',
  '""',
  '[]',
  '{}',
  '"../../x"',
  '\u0000',
  '\u{1f600}',
  '[[[[[[[[',
  '__proto__',
]

/** One to eight changes of `bytes`; `others` are right files of the same kind, of which pieces may be taken. */
export function mutated(bytes: Uint8Array, others: readonly Uint8Array[], random: Rng): Uint8Array {
  let out = bytes
  const below = (n: number) => (n <= 1 ? 0 : random.integersArray(0, Math.min(n, 2 ** 31 - 1), 1)[0])
  for (let changes = 1 + below(8); changes > 0; changes--) out = changed(out, others, below)
  return out
}

function changed(bytes: Uint8Array, others: readonly Uint8Array[], below: (n: number) => number): Uint8Array {
  // Headers are where a file says what it is: half of the changes are near an end.
  const near = () =>
    below(2) === 0
      ? below(bytes.length + 1)
      : below(2) === 0
        ? below(Math.min(64, bytes.length + 1))
        : bytes.length - below(Math.min(64, bytes.length + 1))
  const at = near()
  const splice = (start: number, gone: number, come: Uint8Array) => {
    const out = new Uint8Array(bytes.length - gone + come.length)
    out.set(bytes.subarray(0, start))
    out.set(come, start)
    out.set(bytes.subarray(start + gone), start + come.length)
    return out
  }
  const left = bytes.length - at
  switch (below(7)) {
    case 0: // a bit
      if (left === 0) return bytes
      return splice(at, 1, Uint8Array.of(bytes[at] ^ (1 << below(8))))
    case 1: // a byte
      return left === 0 ? bytes : splice(at, 1, Uint8Array.of(below(256)))
    case 2: // the end is gone
      return bytes.slice(0, at)
    case 3: // a piece is gone
      return splice(at, below(Math.min(left, 256) + 1), new Uint8Array(0))
    case 4: {
      // a piece of itself or of another
      const from = others[below(others.length)]
      const start = below(from.length)
      return splice(at, below(2) === 0 ? 0 : below(Math.min(left, 256) + 1), from.subarray(start, start + below(256)))
    }
    case 5: {
      // a word of an extreme value
      const size = [2, 4, 8][below(3)]
      const word = new Uint8Array(8)
      const value = extremes[below(extremes.length)]
      new DataView(word.buffer).setBigUint64(0, value, true)
      const little = word.subarray(0, size)
      return splice(at, Math.min(size, left), below(2) === 0 ? little : little.slice().reverse())
    }
    default: // text
      return splice(at, below(Math.min(left, 8) + 1), new TextEncoder().encode(words[below(words.length)]))
  }
}
