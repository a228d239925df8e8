/**
 * Stacks of errors that begin with the caller's line, where the mistake is. The frames of this library, which lie between
 * that line and the error, come last. Costs nothing until an error is made.
 */

/** The V8 functions that take a longer stack than the default of 10 frames. Other engines have no limit. */
const engine: { captureStackTrace?(error: Error, below: unknown): void; stackTraceLimit?: number } = Error
const longestStack = 50

/** Folder of the library's rooms; undefined in a bundle, which is a single file. */
const home = /^(?:file:\/\/)?(.*\/)core\/traceback\.[jt]s(?:\?.*)?$/.exec(String(import.meta.url))?.[1]
const rooms = /^(core|io|nn|distributed|data|evaluation|diffusion|models|training)\//

/** Returns the error with a stack that begins at the first frame outside of the library. */
export function atCaller<E extends Error>(error: E): E {
  if (home === undefined) return error
  const { stackTraceLimit } = engine
  engine.stackTraceLimit = longestStack
  engine.captureStackTrace?.(error, atCaller)
  const stack = fromCaller(String(error.stack), home)
  engine.stackTraceLimit = stackTraceLimit
  if (stack !== null) error.stack = stack
  return error
}

/** A stack whose first frames, those of the library, are moved to its end; null if no other frame follows. */
function fromCaller(stack: string, home: string): string | null {
  const lines = stack.split('\n')
  const first = lines.findIndex(isFrame)
  const caller = lines.findIndex(line => isFrame(line) && !isOwn(line, home))
  if (caller <= first) return null
  const [head, inner, outer] = [lines.slice(0, first), lines.slice(first, caller), lines.slice(caller, caller + 10)]
  return [...head, ...outer, '    inside demask:', ...inner].join('\n')
}

/** True for a line that names a place in a file; engines' own functions have none. */
function isFrame(line: string): boolean {
  return /^\s+at .*:\d+:\d+\)?$|@.*:\d+:\d+$/.test(line) && !/[ (]node:/.test(line)
}

function isOwn(line: string, home: string): boolean {
  const at = line.indexOf(home)
  return at >= 0 && rooms.test(line.slice(at + home.length))
}
