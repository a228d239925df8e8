/** Runs a program so that an error is one line on stderr and exit code 1. Needs Node. */

import { errorLine } from '../io/user-error.ts'

/**
 * Runs a program. An error ends it with exit code 1 and its message on one line of stderr. DEMASK_DEBUG=1 shows the stack,
 * too. A closed stdout or stderr (`| head`) does not end the program.
 */
export async function main(program: () => void | Promise<void>): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', unlessClosed)
  try {
    await program()
  } catch (error) {
    process.exitCode = 1
    console.error(errorLine(error))
    if (process.env.DEMASK_DEBUG === '1') console.error(error)
  }
}

/** Ignores EPIPE: the reader of the stream has gone. */
function unlessClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
}
