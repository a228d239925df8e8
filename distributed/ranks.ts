/**
 * A world over MPI. Sums are computed here and not by MPI_Allreduce, whose order of additions depends on the library, the
 * size and the number of ranks. Needs Node and koffi; loaded only under a launcher. The library is mpi.ts.
 */

import type { WasmBackend } from '../core/backends/wasm/backend.ts'
import { addBytes } from '../core/backends/wasm/memory.ts'
import { WasmStorage } from '../core/backends/wasm/storage.ts'
import { add, noGrad, scope, Tensor, zeros } from '../core/index.ts'
import type { Mpi, Request } from './mpi.ts'
import { Watchdog } from './watchdog.ts'
import type { World } from './world.ts'

/** Elements that are summed at a time, over all ranks: small enough for caches, large beside a message's latency. */
const bucket = 2 ** 18
/** Fewest elements of a message. */
const smallestShare = 2 ** 15
/** Milliseconds between two signs of life of rank 0. */
const aliveEvery = 500

/** Ranks of a job over MPI. */
export class Ranks implements World {
  readonly rank: number
  readonly size: number
  readonly first: boolean
  readonly about: string
  readonly #mpi: Mpi
  readonly #watchdog: Watchdog
  #ended = false

  /** `seconds` is the time within which ranks must answer. */
  constructor(mpi: Mpi, seconds: number) {
    this.#mpi = mpi
    this.rank = mpi.rank
    this.size = mpi.size
    this.first = mpi.rank === 0
    this.about = `${mpi.size} ranks over ${mpi.version}`
    this.#watchdog = new Watchdog(seconds, mpi.rank, mpi.size)
    // Node would print an uncaught error after the end of this process.
    process.on('uncaughtExceptionMonitor', error => console.error(error))
    // The other ranks would wait forever, and some launchers would call the job a success.
    process.on('exit', code => {
      if (this.#ended) return
      if (code === 0) console.error(`error: rank ${this.rank} of ${this.size}: ended before the others`)
      mpi.abort(code || 1)
    })
  }

  /** Runs a call that returns once other ranks made it, too. */
  #waiting<T>(call: () => T): T {
    this.#watchdog.toggle()
    const result = call()
    this.#watchdog.toggle()
    return result
  }

  allSum(tensors: readonly Tensor[]): void {
    if (this.size === 1 || tensors.length === 0) return
    const { size } = this
    const total = tensors.reduce((n, t) => n + t.size, 0)
    const capacity = size * Math.ceil(Math.min(total, Math.max(bucket, size * smallestShare)) / size)
    const { backend } = tensors[0]
    for (const t of tensors) elementsOf('allSum', t) // checks all before one is changed
    const { whole, rest } = divided(tensors, size, capacity)
    noGrad(() =>
      scope(() => {
        const received = zeros([capacity], { backend })
        for (const { of, from, length } of whole) this.#sumRange(of, from, length, received)
        if (rest.length === 0) return
        const staged = zeros([capacity], { backend })
        for (const pieces of buckets(rest, capacity)) this.#sumPieces(pieces, staged, received)
      }),
    )
    for (const { storage } of tensors) storage.version++
  }

  /** Sums `length` elements of x, a multiple of the number of ranks: every rank sums one share, and all gather the sums. */
  #sumRange(x: Tensor, from: number, length: number, received: Tensor): void {
    const { rank, size } = this
    const count = length / size
    const share = (of: Tensor, r: number, start = 0) =>
      elementsOf('allSum', of).subarray(start + r * count, start + (r + 1) * count)
    for (let distance = 1; distance < size; distance++) {
      const [to, source] = [(rank + distance) % size, (rank - distance + size) % size]
      this.#waiting(() => this.#mpi.exchange(share(x, to, from), to, share(received, source), source))
    }
    scope(() => {
      const terms = Array.from({ length: size }, (_, r) =>
        r === rank ? partOf(x, from + r * count, count) : partOf(received, r * count, count),
      )
      const sum = pairwiseSum(terms)
      const sums = elementsOf('allSum', x).subarray(from, from + length)
      this.#waiting(() => this.#mpi.allGather(elementsOf('allSum', sum), sums, count))
    })
  }

  /** Sums pieces, which are copied end to end. */
  #sumPieces(pieces: readonly Piece[], staged: Tensor, received: Tensor): void {
    let used = 0
    for (const { of, from, length } of pieces) {
      elementsOf('allSum', staged).set(elementsOf('allSum', of).subarray(from, from + length), used)
      used += length
    }
    this.#sumRange(staged, 0, Math.ceil(used / this.size) * this.size, received)
    let read = 0
    for (const { of, from, length } of pieces) {
      elementsOf('allSum', of).set(elementsOf('allSum', staged).subarray(read, read + length), from)
      read += length
    }
  }

  broadcast(tensors: readonly Tensor[], from = 0): void {
    for (const t of tensors) {
      const elements = elementsOf('broadcast', t)
      this.#waiting(() => this.#mpi.broadcast(elements, from))
      t.storage.version++
    }
  }

  any(flag: boolean): boolean {
    const result = new Float32Array(1)
    this.#waiting(() => this.#mpi.allMax(Float32Array.of(Number(flag)), result))
    return result[0] > 0
  }

  agreed<T>(value: T, from = 0): T {
    const text = this.rank === from ? (JSON.stringify(value) ?? 'null') : ''
    return JSON.parse(Buffer.from(this.#bytes(Buffer.from(text), from)).toString())
  }

  gather(values: Float32Array): Float32Array[] {
    const own = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    return Array.from({ length: this.size }, (_, from) => {
      const bytes = this.#bytes(own, from)
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    })
  }

  /** Returns the bytes of rank `from`. */
  #bytes(own: Uint8Array, from: number): Uint8Array {
    const length = new Uint8Array(8)
    const view = new DataView(length.buffer)
    view.setFloat64(0, own.length)
    this.#waiting(() => this.#mpi.broadcast(length, from))
    const bytes = this.rank === from ? own : new Uint8Array(view.getFloat64(0))
    if (bytes.length > 0) this.#waiting(() => this.#mpi.broadcast(bytes, from))
    return bytes
  }

  async barrier(): Promise<void> {
    await this.#idle(this.#mpi.startBarrier())
  }

  async onFirst<T>(work: (alive: () => void) => Promise<T>): Promise<T | undefined> {
    const [WORKING, DONE] = [1, 0]
    const tell = (state: number, watched: boolean) =>
      this.#idle(this.#mpi.startBroadcast(Uint8Array.of(state), 0), watched)
    if (this.first) {
      let last = performance.now()
      let told = Promise.resolve()
      const result = await work(() => {
        if (performance.now() - last < aliveEvery) return
        last = performance.now()
        told = told.then(() => tell(WORKING, false)) // it works meanwhile: it does not wait
      })
      await told
      await tell(DONE, true)
      return result
    }
    for (const state = Uint8Array.of(WORKING); state[0] === WORKING; )
      await this.#idle(this.#mpi.startBroadcast(state, 0))
    return undefined
  }

  /** Waits for a request, asleep most of the time. */
  async #idle(request: Request, watched = true): Promise<void> {
    if (watched) this.#watchdog.toggle()
    for (let ms = 0; !request.test(); ms = Math.min(ms + 1, 50)) await new Promise(next => setTimeout(next, ms))
    if (watched) this.#watchdog.toggle()
  }

  abort(code: number): never {
    this.#ended = true
    this.#mpi.abort(code)
    process.exit(code)
  }

  end(): void {
    this.#waiting(() => this.#mpi.finalize())
    this.#ended = true
    this.#watchdog.end()
  }
}

/** Elements [from, from + length) of a tensor. */
interface Piece {
  readonly of: Tensor
  readonly from: number
  readonly length: number
}

/**
 * Divides tensors into pieces that are summed where they lie, each a multiple of `size` elements and at most `capacity`, and
 * the rest: small tensors, and the last elements of large ones.
 */
function divided(
  tensors: readonly Tensor[],
  size: number,
  capacity: number,
): { readonly whole: readonly Piece[]; readonly rest: readonly Piece[] } {
  const whole: Piece[] = []
  const rest: Piece[] = []
  for (const of of tensors) {
    const end = of.size >= size * smallestShare ? of.size - (of.size % size) : 0
    for (let from = 0; from < end; from += capacity) whole.push({ of, from, length: Math.min(capacity, end - from) })
    if (end < of.size) rest.push({ of, from: end, length: of.size - end })
  }
  return { whole, rest }
}

/** Pieces end to end, cut into buckets of `capacity` elements. */
function* buckets(all: readonly Piece[], capacity: number): Generator<readonly Piece[]> {
  let pieces: Piece[] = []
  let free = capacity
  for (const { of, from: start, length: whole } of all)
    for (let from = start; from < start + whole; ) {
      const length = Math.min(free, start + whole - from)
      pieces.push({ of, from, length })
      from += length
      free -= length
      if (free > 0) continue
      yield pieces
      pieces = []
      free = capacity
    }
  if (pieces.length > 0) yield pieces
}

/** `length` elements of x from `from` on, in the memory of x, which must outlive them. */
function partOf(x: Tensor, from: number, length: number): Tensor {
  const { backend, dtype, block, address } = x.storage as WasmStorage
  const storage = new WasmStorage(backend, dtype, length, block, addBytes(address, 4 * from))
  storage.holds++ // x frees the memory
  return new Tensor(storage, [length])
}

/** The elements of a tensor where they lie, valid until memory is allocated. Throws unless they are f32 in wasm memory. */
function elementsOf(op: string, t: Tensor): Float32Array {
  const { storage } = t
  if (!(storage instanceof WasmStorage) || storage.dtype !== 'f32')
    throw new Error(`${op}: expected f32 on the backend wasm, got ${t.dtype} on ${t.backend.name}`)
  return (storage.backend as WasmBackend).runtime.floats(storage.address, storage.length)
}

/** Σ terms as a pairwise tree: neighbours first, then sums of 2, of 4, …; the tree of training/step.ts over its parts. */
function pairwiseSum(terms: readonly Tensor[]): Tensor {
  const sums = [...terms]
  for (let width = 1; width < sums.length; width *= 2)
    for (let i = 0; i + width < sums.length; i += 2 * width) sums[i] = add(sums[i], sums[i + width])
  return sums[0]
}
