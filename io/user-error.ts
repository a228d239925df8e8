/**
 * What a person sees when something is wrong: one line that says what and where, exit code 1, no stack trace. Needs Node.
 */

/** A mistake in what we were given (a flag, a file, a full disk): its message is one line and all that a person needs. */
export class UserError extends Error {
  override name = 'UserError'
}

/**
 * Runs a program. An error ends it with exit code 1 and its message on one line of stderr; the stack is shown where
 * DEMASK_DEBUG=1 is set, and only then. Where nobody reads what it prints any more (`| head`), it goes on without.
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

/** For a stream's errors: that its reader has gone is none. */
function unlessClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
}

/** `error: …` on one line; for a mistake in the program itself, how to see where. */
export function errorLine(error: unknown): string {
  const message = (error instanceof Error ? error.message : String(error)).trim().replace(/\s*\n\s*/g, ' ')
  const ours = [TypeError, ReferenceError, SyntaxError].some(kind => error instanceof kind)
  // Node's own complaints about what it was given, such as parseArgs about a flag, are TypeErrors with a code.
  return `error: ${message}${ours && !('code' in (error as Error)) ? ' (DEMASK_DEBUG=1 shows where)' : ''}`
}

/** What an operating system's error code means, in words; for other errors their message. */
export function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC') return 'no space left on the disk'
  if (code === 'EDQUOT') return 'the disk quota is used up'
  if (code === 'ENOENT') return 'no such file or folder'
  if (code === 'EACCES' || code === 'EPERM') return 'no permission'
  if (code === 'EROFS') return 'the file system is read-only'
  if (code === 'ENOTDIR' || code === 'EEXIST') return 'not a folder'
  return String(message ?? error).split('\n')[0]
}
