/** Runs a program so that an error is one line on stderr and an exit code. Needs Node. */

import { launched, quietRanks } from '../distributed/launcher.ts'
import { errorLine, UsageError, UserError } from '../io/user-error.ts'

/** Milliseconds that another rank leaves to rank 0 to report an error that all ranks have. */
const courtesyMs = 3000

/**
 * Runs a program. An error ends it with its message on one line of stderr and an exit code: 2 for a mistake in the command
 * line, 1 for any other. DEMASK_DEBUG=1 shows the stack, too. A closed stdout or stderr (`| head`) does not end the program.
 * Under an MPI launcher only rank 0 prints, and an error of any rank ends them all.
 */
export async function main(program: () => void | Promise<void>): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', unlessClosed)
  const place = launched()
  quietRanks()
  try {
    await program()
  } catch (error) {
    process.exitCode = isUsage(error) ? 2 : 1
    // An error of all ranks is one line: rank 0 ends the others meanwhile, except under MPICH before it is initialised.
    if (place !== null && place.rank > 0) await new Promise(next => setTimeout(next, courtesyMs))
    const told = place !== null && place.rank > 0 && isUsage(error) // every rank has the same command line
    if (!told) console.error(errorLine(error))
    if (!told && process.env.DEMASK_DEBUG === '1') console.error(error)
    if (place !== null) process.exit()
  }
}

/** True for a mistake in the command line. A message about a flag begins with the flag. */
function isUsage(error: unknown): boolean {
  return error instanceof UsageError || (error instanceof UserError && error.message.startsWith('--'))
}

/** Ignores EPIPE: the reader of the stream has gone. */
function unlessClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
}
