/** Classes as a person names them on a command line. */

import { UserError } from '../io/user-error.ts'

/** A class by name or number; `classes` are the names that are known. Throws UserError. */
export function labelOf(name: string, numClasses: number, classes: readonly string[]): number {
  if (numClasses === 0) throw new UserError('--class: wanted a model with classes, got one without')
  const label = classes.includes(name) ? classes.indexOf(name) : /^\d+$/.test(name) ? Number(name) : -1
  if (label >= 0 && label < numClasses) return label
  const known = classes.length > 0 ? ` or one of ${classes.join(', ')}` : ''
  throw new UserError(`--class: wanted a number below ${numClasses}${known}, got '${name}'`)
}
