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
    // An error of all ranks is one line: rank 0 ends the others meanwhile, which MPICH cannot before it is initialised. All ranks
    // have one command line, so rank 0 alone reports a mistake in it.
    const follows = place !== null && place.rank > 0
    if (follows) await new Promise(next => setTimeout(next, courtesyMs))
    if (!(follows && isUsage(error))) report(error)
    if (place !== null) process.exit()
  }
}

function report(error: unknown): void {
  console.error(errorLine(error))
  if (process.env.DEMASK_DEBUG === '1') console.error(error)
}

/** True for a mistake in the command line. A message about a flag begins with the flag. */
function isUsage(error: unknown): boolean {
  return error instanceof UsageError || (error instanceof UserError && error.message.startsWith('--'))
}

/** Ignores EPIPE: the reader of the stream has gone. */
function unlessClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
}
