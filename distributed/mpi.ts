/**
 * MPI through koffi, as far as `ranks.ts` needs it: finds the library, knows its constants, and calls collectives on typed
 * arrays where they lie, in the memory of the wasm backend too. Needs Node and koffi; loaded only under a launcher.
 */

import { existsSync, realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import koffi from 'koffi'
import { UserError } from '../io/user-error.ts'
import { type Abi, abiOf, libraryNames } from './abi.ts'

type Library = ReturnType<typeof koffi.load>
/** Memory whose address is passed. */
type Memory = Float32Array | Uint8Array

const [P, I, H] = ['void *', 'int', 'handle'] as const
/** Argument types of the functions in use; H stands for the library's type of handles. */
const signatures = {
  MPI_Init: [P, P],
  MPI_Finalize: [],
  MPI_Comm_rank: [H, P],
  MPI_Comm_size: [H, P],
  MPI_Get_library_version: [P, P],
  MPI_Abort: [H, I],
  MPI_Ibarrier: [H, P],
  MPI_Ibcast: [P, I, H, I, H, P],
  MPI_Test: [P, P, P],
  MPI_Bcast: [P, I, H, I, H],
  MPI_Allreduce: [P, P, I, H, H, H],
  MPI_Allgather: [P, I, H, P, I, H, H],
  MPI_Sendrecv: [P, I, H, I, I, P, I, H, I, I, H, P],
} as const

/** A request in progress: calls `test` until it returns true. */
export interface Request {
  readonly test: () => boolean
  /** Arrays that the library reads and writes until then, kept from the garbage collector. */
  readonly memory: readonly ArrayBufferView[]
}

/** The library between `MPI_Init` and `MPI_Finalize`. */
export class Mpi {
  readonly rank: number
  readonly size: number
  /** Name of the library and its version. */
  readonly version: string
  /** File of the library. */
  readonly path: string
  readonly #abi: Abi
  readonly #functions: ReadonlyMap<string, (...args: unknown[]) => number>
  readonly #number = new Int32Array(1)

  /** Loads and initialises the library. Throws UserError if there is none. */
  constructor() {
    // UCX tries its memory hooks by moving the end of the heap to and fro, while Node's other threads allocate there.
    process.env.UCX_MEM_EVENTS ??= 'n'
    const [library, path] = openLibrary()
    this.path = path
    this.#abi = abiOf(path, symbol => addressOf(library, symbol))
    const { handle, world } = this.#abi
    this.#functions = new Map(
      Object.entries(signatures).map(([name, types]) => [
        name,
        library.func(
          name,
          'int',
          [...types].map(type => (type === H ? handle : type)),
        ),
      ]),
    )
    const text = new Uint8Array(8192)
    const length = this.#read('MPI_Get_library_version', text)
    const full = Buffer.from(text.subarray(0, length)).toString('latin1')
    this.version = nameOf(full)
    this.#call('MPI_Init', null, null)
    this.rank = this.#read('MPI_Comm_rank', world)
    this.size = this.#read('MPI_Comm_size', world)
  }

  #call(name: keyof typeof signatures, ...args: unknown[]): void {
    const code = this.#functions.get(name)!(...args)
    if (code !== 0) throw new Error(`${name}: expected code 0, got ${code}`)
  }

  /** Calls a function whose last argument is an integer that it writes. */
  #read(name: keyof typeof signatures, ...args: unknown[]): number {
    this.#call(name, ...args, this.#number)
    return this.#number[0]
  }

  /** Sends x to rank `to`, and receives y, as long, from rank `from`. */
  exchange(x: Float32Array, to: number, y: Float32Array, from: number): void {
    const { float, world, ignore } = this.#abi
    this.#call('MPI_Sendrecv', x, x.length, float, to, 0, y, y.length, float, from, 0, world, ignore)
  }

  /** The x of all ranks, `count` long, in the order of ranks. */
  allGather(x: Memory, all: Memory, count: number): void {
    const { float, world } = this.#abi
    this.#call('MPI_Allgather', x, count, float, all, count, float, world)
  }

  /** The largest x, elementwise. */
  allMax(x: Float32Array, y: Float32Array): void {
    const { float, max, world } = this.#abi
    this.#call('MPI_Allreduce', x, y, x.length, float, max, world)
  }

  /** x of rank `from`. */
  broadcast(x: Memory, from: number): void {
    const { float, byte, world } = this.#abi
    this.#call('MPI_Bcast', x, x.length, x instanceof Float32Array ? float : byte, from, world)
  }

  /** The same, in the background. */
  startBroadcast(x: Uint8Array, from: number): Request {
    const { byte, world } = this.#abi
    return this.#start(request => this.#call('MPI_Ibcast', x, x.length, byte, from, world, request), x)
  }

  /** A barrier in the background. */
  startBarrier(): Request {
    return this.#start(request => this.#call('MPI_Ibarrier', this.#abi.world, request))
  }

  #start(start: (request: BigInt64Array) => void, ...memory: Uint8Array[]): Request {
    const request = new BigInt64Array(1) // a handle has 4 or 8 bytes
    start(request)
    const done = new Int32Array(1)
    return {
      test: () => {
        this.#functions.get('MPI_Test')!(request, done, this.#abi.ignore)
        return done[0] !== 0
      },
      memory,
    }
  }

  /** Ends all ranks, this one too. */
  abort(code: number): void {
    this.#functions.get('MPI_Abort')!(this.#abi.world, code)
  }

  finalize(): void {
    this.#call('MPI_Finalize')
  }
}

/** 'Open MPI v4.1.4', 'MPICH 4.0.2'. */
function nameOf(text: string): string {
  const mpich = /^MPICH Version:\s*(\S+)/.exec(text)
  return mpich === null ? text.replaceAll('\0', '').split(/[,\n]/)[0] : `MPICH ${mpich[1]}`
}

function addressOf(library: Library, symbol: string): bigint | null {
  try {
    return library.symbol(symbol) as bigint
  } catch {
    return null // not in this library
  }
}

/** Opens DEMASK_MPI, or the first library of the usual names, in the system's folders and beside the launcher. */
function openLibrary(): [library: Library, path: string] {
  const { DEMASK_MPI, OMPI_COMM_WORLD_SIZE } = process.env
  const names = libraryNames(process.platform, OMPI_COMM_WORLD_SIZE !== undefined)
  const folders = launcherFolders()
  const beside = folders.flatMap(folder => names.map(name => join(folder, name))).filter(path => existsSync(path))
  for (const path of DEMASK_MPI ? [DEMASK_MPI] : [...beside, ...names])
    try {
      return [koffi.load(path, { global: true, lazy: true }), path] // plug-ins of Open MPI need its symbols
    } catch (error) {
      if (DEMASK_MPI)
        throw new UserError(`DEMASK_MPI: expected an MPI library, got ${path}: ${(error as Error).message}`)
    }
  throw new UserError(
    `distributed: expected an MPI library, got none of ${names.join(', ')}. Set DEMASK_MPI to the library of the launcher`,
  )
}

/** The lib folders of launchers in PATH outside /usr: pip, Homebrew and modules install there. */
function launcherFolders(): string[] {
  const launchers = (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, 'mpirun'))
  return launchers
    .filter(path => existsSync(path))
    .map(path => join(dirname(dirname(realpathSync(path))), 'lib'))
    .filter(folder => folder !== '/usr/lib')
}
