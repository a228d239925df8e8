/** Joins the job that a launcher started. Needs Node. Only `init` under a launcher loads koffi and an MPI library. */

import { UserError } from '../io/user-error.ts'
import { type Launch, launched } from './launcher.ts'
import { alone, type World } from './world.ts'

/** How long ranks wait for each other. */
export interface InitOptions {
  /** Seconds within which every rank must answer; after that the job ends. Default 1800. */
  readonly timeout?: number
}

let joined: Promise<World> | undefined

/**
 * Returns the world of this process: all ranks of mpirun, mpiexec or srun, or without a launcher this process alone. A
 * second call returns the same world. Throws UserError without koffi, without an MPI library, and if the library is of
 * another MPI than the launcher.
 */
export function init({ timeout = 1800 }: InitOptions = {}): Promise<World> {
  joined ??= join(launched(), timeout)
  return joined
}

async function join(place: Launch | null, timeout: number): Promise<World> {
  if (place === null) return alone
  const { Mpi } = await import('./mpi.ts').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new UserError('distributed: expected the package koffi, got none. Run npm install koffi', { cause: error })
  })
  const mpi = new Mpi()
  if (mpi.size !== place.size)
    throw new UserError(
      `distributed: expected ${place.size} ranks, as the launcher started, got ${mpi.size} by ${mpi.path} (${mpi.version}). ` +
        "Set DEMASK_MPI to the launcher's own MPI library",
    )
  const { Ranks } = await import('./ranks.ts')
  return new Ranks(mpi, timeout)
}
