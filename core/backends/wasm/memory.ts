/**
 * The allocator: blocks of one linear memory that only grows. Two-level segregated fit (Masmano et al., 2004): free
 * blocks hang in lists by size class, eight classes to a power of two, a bitmap tells which lists are not empty, and
 * neighbours that are free merge at once. So alloc and free are a few array accesses, a block is at most 63 bytes
 * larger than asked, and a hole found is at most 12.5 % larger than needed before it is split.
 * Blocks are numbers; their positions and lists are typed arrays outside the wasm memory.
 */

/** Blocks begin at multiples of this and are multiples of it: a cache line, and a unit of all figures below. */
const UNIT = 64
const PAGE = 65536
const MAX_PAGES = 65536
/** The memory grows by at least this much. */
const MIN_GROWTH = 16 << 20
/** Size classes: 0–7 units exactly, then eight to a power of two. 2³² bytes are 2²⁶ units. */
const CLASSES = 8 * 25
const NONE = -1

declare const isAddress: unique symbol

/** A byte of the linear memory, as 32 unsigned bits. */
export type Address = number & { readonly [isAddress]: true }

/** Returns the address `bytes` after another. */
export function addBytes(address: Address, bytes: number): Address {
  return (address + bytes) as Address
}

/** The class whose blocks have at least the size of its first member, `units` among them. */
function classOf(units: number): number {
  if (units < 8) return units
  const log = 31 - Math.clz32(units)
  return (log - 2) * 8 + ((units >>> (log - 3)) & 7)
}

/** The first class all of whose blocks are large enough. */
function classFor(units: number): number {
  if (units < 8) return units
  const log = 31 - Math.clz32(units)
  return classOf(units + (1 << (log - 3)) - 1)
}

/** Memory that can be grown by pages and says how large it is; a WebAssembly.Memory, or less in tests. */
export interface Growable {
  readonly buffer: { readonly byteLength: number }
  /** Throws when there is no more. */
  grow(pages: number): number
}

/** Blocks of `memory` from byte `base` on. */
export class Allocator {
  /** Bytes in blocks that are taken, and the highest value of that. */
  used = 0
  peak = 0
  /** Blocks that are taken. */
  count = 0

  readonly #memory: Growable
  // Per block: first unit, units, neighbours in memory, neighbours in its free list (#nextFree = itself when taken).
  #start = new Int32Array(1024)
  #units = new Int32Array(1024)
  #before = new Int32Array(1024)
  #after = new Int32Array(1024)
  #previousFree = new Int32Array(1024)
  #nextFree = new Int32Array(1024)
  /** Block numbers that may be given out again, as a stack. */
  #spare: number[] = []
  #blocks = 0
  readonly #firstFree = new Int32Array(CLASSES).fill(NONE)
  /** Bit c of word c >> 5: class c has a free block. */
  readonly #filled = new Int32Array((CLASSES >> 5) + 1)
  /** The block that ends where the memory ends. */
  #last = NONE

  constructor(memory: Growable, base: number) {
    this.#memory = memory
    // The end of memory stays free: kernels may read up to 15 bytes past a block.
    const units = Math.floor(memory.buffer.byteLength / UNIT) - 1 - Math.ceil(base / UNIT)
    const block = this.#newBlock(Math.ceil(base / UNIT), Math.max(units, 0), NONE, NONE)
    this.#last = block
    this.#insert(block)
  }

  /** A block of at least `bytes`. Throws when the memory cannot grow that far. */
  alloc(bytes: number): number {
    const units = bytes <= UNIT ? 1 : Math.ceil(bytes / UNIT)
    let block = this.#find(units)
    if (block === NONE) {
      this.#grow(units, bytes)
      block = this.#find(units)
    }
    this.#remove(block)
    const rest = this.#units[block] - units
    if (rest > 0) {
      const tail = this.#newBlock(this.#start[block] + units, rest, block, this.#after[block])
      if (this.#after[block] === NONE) this.#last = tail
      else this.#before[this.#after[block]] = tail
      this.#after[block] = tail
      this.#units[block] = units
      this.#insert(tail)
    }
    this.count++
    this.used += units * UNIT
    if (this.used > this.peak) this.peak = this.used
    return block
  }

  /** Gives the block back. Its number must not be used again. */
  free(block: number): void {
    this.count--
    this.used -= this.#units[block] * UNIT
    const before = this.#before[block]
    const after = this.#after[block]
    if (after !== NONE && this.#isFree(after)) {
      this.#remove(after)
      this.#absorb(block, after)
    }
    if (before !== NONE && this.#isFree(before)) {
      this.#remove(before)
      this.#absorb(before, block)
      this.#insert(before)
    } else this.#insert(block)
  }

  /** Byte address of a block. */
  address(block: number): Address {
    return (this.#start[block] * UNIT) as Address
  }

  /** Bytes that the block holds. */
  capacity(block: number): number {
    return this.#units[block] * UNIT
  }

  #isFree(block: number): boolean {
    return this.#nextFree[block] !== block
  }

  /** A free block of at least `units`, or NONE: the first of the first list that has one. */
  #find(units: number): number {
    const c = classFor(units)
    let word = c >> 5
    let bits = this.#filled[word] & (-1 << (c & 31))
    while (bits === 0) {
      if (++word === this.#filled.length) return this.#fits(this.#last, units) ? this.#last : NONE
      bits = this.#filled[word]
    }
    return this.#firstFree[(word << 5) + 31 - Math.clz32(bits & -bits)]
  }

  /** The last block may be large enough although its class does not promise it; asked before the memory grows. */
  #fits(block: number, units: number): boolean {
    return this.#isFree(block) && this.#units[block] >= units
  }

  #insert(block: number): void {
    const c = classOf(this.#units[block])
    const head = this.#firstFree[c]
    this.#nextFree[block] = head
    this.#previousFree[block] = NONE
    if (head !== NONE) this.#previousFree[head] = block
    this.#firstFree[c] = block
    this.#filled[c >> 5] |= 1 << (c & 31)
  }

  #remove(block: number): void {
    const c = classOf(this.#units[block])
    const next = this.#nextFree[block]
    const previous = this.#previousFree[block]
    if (next !== NONE) this.#previousFree[next] = previous
    if (previous !== NONE) this.#nextFree[previous] = next
    else {
      this.#firstFree[c] = next
      if (next === NONE) this.#filled[c >> 5] &= ~(1 << (c & 31))
    }
    this.#nextFree[block] = block
  }

  /** `left` takes over its neighbour `right`, whose number becomes spare. */
  #absorb(left: number, right: number): void {
    const after = this.#after[right]
    this.#units[left] += this.#units[right]
    this.#after[left] = after
    if (after === NONE) this.#last = left
    else this.#before[after] = left
    this.#spare.push(right)
  }

  #newBlock(start: number, units: number, before: number, after: number): number {
    const block = this.#spare.length > 0 ? this.#spare.pop()! : this.#blocks++
    if (block === this.#start.length) this.#widen()
    this.#start[block] = start
    this.#units[block] = units
    this.#before[block] = before
    this.#after[block] = after
    this.#nextFree[block] = block
    return block
  }

  #widen(): void {
    const widened = (from: Int32Array): Int32Array<ArrayBuffer> => {
      const to = new Int32Array(2 * from.length)
      to.set(from)
      return to
    }
    this.#start = widened(this.#start)
    this.#units = widened(this.#units)
    this.#before = widened(this.#before)
    this.#after = widened(this.#after)
    this.#previousFree = widened(this.#previousFree)
    this.#nextFree = widened(this.#nextFree)
  }

  /** Grows the memory until its last block, which is free afterwards, holds `units`. */
  #grow(units: number, bytes: number): void {
    const pagesNow = this.#memory.buffer.byteLength / PAGE
    const last = this.#last
    const missing = (units - (this.#isFree(last) ? this.#units[last] : 0)) * UNIT
    const needed = Math.ceil(missing / PAGE)
    const wanted = Math.max(needed, Math.ceil(Math.max(MIN_GROWTH, this.used / 4) / PAGE))
    let pages = Math.min(wanted, MAX_PAGES - pagesNow)
    if (pages < needed || !this.#tryGrow(pages)) {
      pages = needed
      if (pagesNow + needed > MAX_PAGES || !this.#tryGrow(pages))
        throw new Error(
          `wasm: out of memory: expected ${megabytes(bytes)}, ${megabytes(this.used)} are live and ` +
            `${megabytes(MAX_PAGES * PAGE)} is the limit; lower the batch size, choose a smaller preset or use checkpoint()`,
        )
    }
    const grown = (pages * PAGE) / UNIT
    if (this.#isFree(last)) {
      this.#remove(last)
      this.#units[last] += grown
      this.#insert(last)
    } else {
      const block = this.#newBlock(this.#start[last] + this.#units[last], grown, last, NONE)
      this.#after[last] = block
      this.#last = block
      this.#insert(block)
    }
  }

  #tryGrow(pages: number): boolean {
    try {
      this.#memory.grow(pages)
      return true
    } catch {
      return false
    }
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
