/**
 * Starts programs under an MPI launcher, as a person does. Needs Node. The tests of this folder run with the first launcher
 * in PATH, or the one that DEMASK_TEST_MPIRUN names; without one they are skipped.
 */

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'

/** The launcher. */
export const mpirun = process.env.DEMASK_TEST_MPIRUN ?? 'mpirun'
const version = spawnSync(mpirun, ['--version'], { encoding: 'utf8' }).stdout ?? ''
/** True if the launcher is Open MPI's, false if it is MPICH's. */
export const isOpenMpi = /Open MPI|OpenRTE|PRRTE/i.test(version)

/** `test` of uvu, or a skipped one, with one line, where there is no launcher. */
export const testUnderMpi = version === '' ? test.skip : test
if (version === '') console.log('SKIPPED tests under MPI: no mpirun (apt-get install openmpi-bin)')

const repository = fileURLToPath(new URL('../..', import.meta.url))

/** The `demask` command as the package has it, which starts in half of the time that it takes from source. */
export const demask = version === '' ? '' : join(built(), 'dist/cli/index.js')

/** Compiles the library and the command into a folder that lasts as long as this process. */
function built(): string {
  const folder = mkdtempSync(join(tmpdir(), 'demask-built-'))
  process.on('exit', () => rmSync(folder, { recursive: true }))
  const tsc = join(repository, 'node_modules/typescript/bin/tsc')
  execFileSync(process.execPath, [tsc, '-p', join(repository, 'tsconfig.build.json'), '--outDir', join(folder, 'dist')])
  for (const name of ['package.json', 'assets', 'node_modules']) symlinkSync(join(repository, name), join(folder, name))
  return folder
}

/** A job that has ended. */
export interface Ended {
  readonly code: number | null
  readonly stdout: string
  /** Lines of stderr that begin with `error:`: those of our programs. */
  readonly errors: readonly string[]
  readonly stderr: string
  /** Since the start, or since the call of `act`. */
  readonly seconds: number
  /** Ranks that `act` was called with and that still run. */
  readonly left: readonly number[]
}

/** Options of a job. */
export interface JobOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Flags of node before the program. */
  readonly nodeFlags?: readonly string[]
  /** Called once `when` is true of what was printed, with the launcher and the processes of its ranks. */
  readonly act?: (launcher: ChildProcess, ranks: readonly number[]) => void
  readonly when?: (stdout: string) => boolean
}

/** Environment in which Open MPI starts more ranks than cores, as root too, and leaves them unbound. */
export const jobEnvironment = {
  OMPI_ALLOW_RUN_AS_ROOT: '1',
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
  OMPI_MCA_rmaps_base_oversubscribe: '1',
  OMPI_MCA_hwloc_base_binding_policy: 'none',
  PRTE_MCA_rmaps_default_mapping_policy: ':oversubscribe',
}

/** The command line of `words`, which are `demask` or a TypeScript file of the repository and its arguments. */
export function commandOf(words: readonly string[], nodeFlags: readonly string[] = []): string[] {
  return [process.execPath, ...(words[0].endsWith('.ts') ? ['--import', 'tsx'] : []), ...nodeFlags, ...words]
}

/** Runs `words` on `ranks` ranks to their end; on 0, without a launcher. */
export function runJob(ranks: number, words: readonly string[], options: JobOptions = {}): Promise<Ended> {
  const { env, nodeFlags = [], act, when } = options
  const node = commandOf(words, nodeFlags)
  const command = ranks === 0 ? node : [mpirun, '-n', String(ranks), ...node]
  const child = spawn(command[0], command.slice(1), {
    cwd: repository,
    env: { ...process.env, ...jobEnvironment, DEMASK_DEBUG: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr, began] = ['', '', performance.now()]
  let pids: readonly number[] = []
  child.stdout.on('data', chunk => (stdout += chunk))
  const watch = setInterval(() => {
    if (act === undefined || pids.length > 0 || !when!(stdout)) return
    pids = nodesBelow(child.pid!)
    began = performance.now()
    act(child, pids)
  }, 20)
  child.stderr.on('data', chunk => (stderr += chunk))
  return new Promise(resolve =>
    child.on('close', async code => {
      clearInterval(watch)
      const seconds = (performance.now() - began) / 1000
      const errors = stderr.split('\n').filter(line => line.startsWith('error:'))
      resolve({ code, stdout, errors, stderr, seconds, left: await lasting(pids) })
    }),
  )
}

/** Process ids of the node processes below a launcher, in the order of their start. */
export function nodesBelow(pid: number): number[] {
  const lines = spawnSync('ps', ['-eo', 'pid=,ppid=,comm='], { encoding: 'utf8' }).stdout.trim().split('\n')
  const rows = lines.map(line => line.trim().split(/\s+/))
  const below = (parent: number): number[] =>
    rows
      .filter(([, ppid]) => Number(ppid) === parent)
      .flatMap(([child, , name]) => [...(/node|MainThread/.test(name) ? [Number(child)] : []), ...below(Number(child))])
  return below(pid).sort((a, b) => a - b)
}

/** Returns the processes that still run two seconds later. */
async function lasting(pids: readonly number[]): Promise<number[]> {
  for (let i = 0; i < 40; i++) {
    if (!pids.some(isRunning)) return []
    await new Promise(next => setTimeout(next, 50))
  }
  return pids.filter(isRunning)
}

function isRunning(pid: number): boolean {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout.trim() !== '' && !stdout.startsWith('Z') // a zombie has ended
}
