/** Classes as a person names them on a command line. */

import { UserError } from '../io/user-error.ts'

/**
 * A class by name, typed exactly or as Unicode that means the same, or by its index. `#3` is always an index; `3` is one
 * unless some class is named by a number. `classes` are the names that are known. Throws UserError.
 */
export function labelOf(name: string, numClasses: number, classes: readonly string[]): number {
  if (numClasses === 0) throw new UserError('--class: expected a model with classes, got one without')
  const label = findLabel(name, numClasses, classes)
  if (label !== null) return label
  const numbers = namedByNumber(classes) ? `an index #0 to #${numClasses - 1}` : `a number below ${numClasses}`
  const known = classes.length > 0 ? ` or one of ${classes.join(', ')}` : ''
  throw new UserError(`--class: expected ${numbers}${known}, got '${name}'`)
}

/**
 * The classes of one `--class`: a whole text that names a class is one class, with its commas and spaces; another is a
 * list with commas between. Throws UserError.
 */
export function labelsOf(text: string, numClasses: number, classes: readonly string[]): number[] {
  const whole = findLabel(text, numClasses, classes)
  if (whole !== null) return [whole]
  const labels: number[] = []
  const parts = text.split(',')
  for (let i = 0; i < parts.length; ) {
    // Names with commas in a list: the most parts that are one name.
    let count = parts.length - i
    while (count > 1 && findLabel(parts.slice(i, i + count).join(','), numClasses, classes) === null) count--
    labels.push(labelOf(parts.slice(i, i + count).join(','), numClasses, classes))
    i += count
  }
  return labels
}

/** The class by its name exactly, without spaces around it, or by its index; null where there is none. */
function findLabel(text: string, numClasses: number, classes: readonly string[]): number | null {
  const trimmed = text.trim()
  const same = (name: string) => name.normalize('NFC')
  const labels = [
    classes.indexOf(text),
    classes.findIndex(name => same(name) === same(text)),
    classes.findIndex(name => same(name).trim() === same(trimmed)),
  ]
  const index = (namedByNumber(classes) ? /^#(\d+)$/ : /^#?(\d+)$/).exec(trimmed)?.[1]
  if (index !== undefined) labels.push(Number(index))
  return labels.find(label => label >= 0 && label < numClasses) ?? null
}

function namedByNumber(classes: readonly string[]): boolean {
  return classes.some(name => /^\d+$/.test(name.trim()))
}
