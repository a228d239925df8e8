/**
 * A world over MPI. Sums are computed here and not by MPI_Allreduce, whose order of additions depends on the library, the
 * size and the number of ranks. Needs Node and koffi; loaded only under a launcher. The library is mpi.ts.
 */

import type { WasmBackend } from '../core/backends/wasm/backend.ts'
import { WasmStorage } from '../core/backends/wasm/storage.ts'
import { add, noGrad, scope, type Tensor, tensor, zeros } from '../core/index.ts'
import type { Mpi, Request } from './mpi.ts'
import { Watchdog } from './watchdog.ts'
import type { World } from './world.ts'

/** Elements that are summed at a time, over all ranks: small enough for caches, large beside a message's latency. */
const bucket = 2 ** 20
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
    const share = Math.ceil(Math.min(total, Math.max(bucket, size * smallestShare)) / size)
    const { backend } = tensors[0]
    for (const t of tensors) elementsOf('allSum', t) // checks all before one is changed
    noGrad(() =>
      scope(() => {
        const mine = zeros([size * share], { backend })
        const theirs = zeros([size * share], { backend })
        for (const pieces of buckets(tensors, size * share)) scope(() => this.#sumBucket(pieces, mine, theirs))
      }),
    )
    for (const { storage } of tensors) storage.version++
  }

  /** Every rank sums one share of the bucket, and all gather the sums. */
  #sumBucket(pieces: readonly Piece[], mine: Tensor, theirs: Tensor): void {
    let used = 0
    const staged = elementsOf('allSum', mine)
    for (const { of, from, length } of pieces) {
      staged.set(elementsOf('allSum', of).subarray(from, from + length), used)
      used += length
    }
    const count = Math.ceil(used / this.size)
    this.#waiting(() => this.#mpi.allToAll(staged, elementsOf('allSum', theirs), count))
    const received = elementsOf('allSum', theirs)
    const terms = Array.from({ length: this.size }, (_, r) =>
      tensor(received.subarray(r * count, (r + 1) * count), { backend: mine.backend }),
    )
    const sum = elementsOf('allSum', pairwiseSum(terms))
    const sums = elementsOf('allSum', mine)
    this.#waiting(() => this.#mpi.allGather(sum, sums, count))
    let read = 0
    for (const { of, from, length } of pieces) {
      elementsOf('allSum', of).set(sums.subarray(read, read + length), from)
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
  async #idle({ test }: Request, watched = true): Promise<void> {
    if (watched) this.#watchdog.toggle()
    for (let ms = 0; !test(); ms = Math.min(ms + 1, 50)) await new Promise(next => setTimeout(next, ms))
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

/** Tensors end to end, cut into buckets of `capacity` elements. */
function* buckets(tensors: readonly Tensor[], capacity: number): Generator<readonly Piece[]> {
  let pieces: Piece[] = []
  let free = capacity
  for (const of of tensors)
    for (let from = 0; from < of.size; ) {
      const length = Math.min(free, of.size - from)
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
