/**
 * Names and values that an MPI library gives its handles. There are three binary interfaces: Open MPI, whose handles are
 * addresses of its symbols; MPICH, whose handles are integers, which Intel MPI and Cray MPICH share; and the standard one
 * of MPI 5 [MPI-5]. Runs anywhere.
 */

/** A handle: an address or an integer. */
export type Handle = bigint | number

/** Handles and special addresses of a library. */
export interface Abi {
  /** Type of a handle, as koffi names it. */
  readonly handle: 'void *' | 'int'
  /** MPI_COMM_WORLD */
  readonly world: Handle
  /** MPI_FLOAT */
  readonly float: Handle
  /** MPI_BYTE */
  readonly byte: Handle
  /** MPI_MAX */
  readonly max: Handle
  /** MPI_STATUS_IGNORE */
  readonly ignore: bigint
}

const mpich: Abi = {
  handle: 'int',
  world: 0x44000000,
  float: 0x4c00040a,
  byte: 0x4c00010d,
  max: 0x58000001,
  ignore: 1n,
}

const standard: Abi = {
  handle: 'void *',
  world: 0x101n,
  float: 0x210n,
  byte: 0x247n,
  max: 0x23n,
  ignore: 0n,
}

/** Returns the interface of the library at `path`. `addressOf` returns the address of a symbol, null if there is none. */
export function abiOf(path: string, addressOf: (symbol: string) => bigint | null): Abi {
  if (path.includes('mpi_abi')) return standard
  const world = addressOf('ompi_mpi_comm_world')
  if (world === null) return mpich
  const [float, byte, max] = ['ompi_mpi_float', 'ompi_mpi_byte', 'ompi_mpi_op_max'].map(name => addressOf(name)!)
  return { handle: 'void *', world, float, byte, max, ignore: 0n }
}

/** Names under which systems have an MPI library; those of the launcher at work come first. */
export function libraryNames(platform: NodeJS.Platform, isOpenMpi: boolean): string[] {
  if (platform === 'darwin') return ['libmpi.dylib', 'libmpich.dylib', 'libmpi_abi.dylib']
  const openMpi = ['libmpi.so.40']
  const mpich = ['libmpi.so.12', 'libmpich.so.12']
  return [
    ...(isOpenMpi ? [...openMpi, ...mpich] : [...mpich, ...openMpi]),
    'libmpi.so',
    'libmpi_abi.so.1',
    'libmpi_abi.so.0',
  ]
}
