/**
 * Environment variables of MPI launchers (mpirun, mpiexec, srun): rank, size and place of this process. Needs Node. Nothing here
 * loads MPI, so a program without a launcher pays nothing.
 */

import { availableParallelism, cpus } from 'node:os'

/** Place of a process in a job. */
export interface Launch {
  /** From 0. */
  readonly rank: number
  /** Number of processes in the job. */
  readonly size: number
  /** Number of them on this machine; `size` where the launcher does not say. */
  readonly localSize: number
}

type Environment = Readonly<Record<string, string | undefined>>

/** Returns the place of this process in its job; null without a launcher. */
export function launched(env: Environment = process.env): Launch | null {
  const { OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE } = env
  if (OMPI_COMM_WORLD_SIZE !== undefined)
    return launch(OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE)
  const { SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_STEP_TASKS_PER_NODE } = env
  const { PMI_RANK, PMI_SIZE, MPI_LOCALNRANKS } = env
  const onNode = SLURM_STEP_TASKS_PER_NODE?.match(/^\d+/)?.[0] // '4(x2),3': the first nodes have the most
  if (PMI_SIZE !== undefined) return launch(PMI_RANK, PMI_SIZE, MPI_LOCALNRANKS ?? onNode)
  // A job step of several tasks is one job, even if srun was given no MPI plug-in: `init` then finds the mismatch.
  const isStep = env.PMIX_RANK !== undefined || Number(SLURM_STEP_NUM_TASKS) > 1
  if (isStep && SLURM_PROCID !== undefined && SLURM_STEP_NUM_TASKS !== undefined)
    return launch(SLURM_PROCID, SLURM_STEP_NUM_TASKS, onNode)
  return null
}

function launch(rank: string | undefined, size: string, localSize: string | undefined): Launch {
  return { rank: Number(rank), size: Number(size), localSize: Number(localSize ?? size) }
}

/**
 * Drops what ranks other than 0 print to stdout, so that progress and results appear once. Errors on stderr stay. Does
 * nothing without a launcher.
 */
export function quietRanks(): void {
  const place = launched()
  if (place === null || place.rank === 0) return
  process.stdout.write = (_: unknown, encoding?: unknown, done: unknown = encoding) => {
    if (typeof done === 'function') process.nextTick(done)
    return true
  }
}

/**
 * Returns the number of threads for this process: its share of the machine's cores, and at most the cores that the launcher
 * bound it to. Undefined without a launcher, and if DEMASK_THREADS decides.
 */
export function threadsPerRank(env: Environment = process.env): number | undefined {
  const place = launched(env)
  if (place === null || env.DEMASK_THREADS) return undefined
  return Math.max(1, Math.min(availableParallelism(), Math.floor(cpus().length / place.localSize)))
}
