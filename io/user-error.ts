/** The error that a person sees as one line, and the words for other errors. Runs anywhere. */

/** A mistake in the input (a flag, a file, a full disk). Its message is one line and needs no stack trace. */
export class UserError extends Error {
  override name = 'UserError'
}

/** A command line that names what does not exist, or a value out of its range. */
export class UsageError extends UserError {
  override name = 'UsageError'
}

/** `error: …` on one line; for a mistake in the program itself, how to see where. */
export function errorLine(error: unknown): string {
  const message = (error instanceof Error ? error.message : String(error)).trim().replace(/\s*\n\s*/g, ' ')
  const ours = [TypeError, ReferenceError, SyntaxError].some(kind => error instanceof kind)
  // Node's own complaints about what it was given, such as parseArgs about a flag, are TypeErrors with a code.
  return `error: ${message}${ours && !('code' in (error as Error)) ? ' (DEMASK_DEBUG=1 shows where)' : ''}`
}

/** Returns an operating system's error code in words; for other errors their message. */
export function reason(error: unknown): string {
  const { code, message } = Object(error) as NodeJS.ErrnoException
  if (code === 'ENOSPC') return 'no space left on the disk'
  if (code === 'EDQUOT') return 'the disk quota is used up'
  if (code === 'ENOENT') return 'no such file or folder'
  if (code === 'EACCES' || code === 'EPERM') return 'no permission'
  if (code === 'EROFS') return 'the file system is read-only'
  if (code === 'ENOTDIR' || code === 'EEXIST') return 'not a folder'
  return String(message ?? error).split('\n')[0]
}
