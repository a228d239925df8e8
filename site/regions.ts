/**
 * Pieces of the source by name: a top-level declaration, a member (`Tensor.item`), or the lines between
 * `// #region name` and `// #endregion name`. code.ts writes them into pages. Needs Node.
 */

import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

export const root = resolve(import.meta.dirname, '..')

export interface Region {
  /** The first one's number, counted from 1. */
  readonly line: number
  readonly text: string
}

/** A piece of a file, with its docstring and without its indentation. Throws if the file or the piece is missing. */
export function region(path: string, name: string): Region {
  if (!existsSync(join(root, path))) throw new Error(`${path}: expected a file of the repository, got none`)
  const lines = readFileSync(join(root, path), 'utf8').split('\n')
  const found = marked(lines, name) ?? declared(lines, name.split('.'))
  if (found === null) throw new Error(`${path}: expected a declaration, member or region '${name}', got none`)
  const [start, end] = found
  const indent = /^ */.exec(lines[start])![0].length
  const text = lines
    .slice(start, end)
    .filter(line => !/^\s*\/\/ #(end)?region\b/.test(line))
    .map(line => line.slice(indent))
    .join('\n')
  return { line: start + 1, text }
}

type Span = readonly [start: number, end: number]

function marked(lines: readonly string[], name: string): Span | null {
  const start = lines.findIndex(line => line.trim() === `// #region ${name}`)
  const end = lines.findIndex(line => line.trim() === `// #endregion ${name}`)
  return start < 0 || end < start ? null : [start + 1, end]
}

/** A declaration at the left margin, or with two names a member two columns in. */
function declared(
  lines: readonly string[],
  names: readonly string[],
  from: Span = [0, lines.length],
  depth = 0,
): Span | null {
  const margin = '  '.repeat(depth)
  const words =
    depth === 0
      ? '(?:export |default |declare |abstract |async |function\\*? ?|class |interface |type |const |let )+'
      : '(?:private |protected |static |override |readonly |async |get |set |\\*)*'
  const head = new RegExp(`^${margin}${words}${names[0].replace(/[$#]/g, '\\$&')}(?![\\w$])`)
  const at = lines.findIndex((line, i) => i >= from[0] && i < from[1] && head.test(line))
  if (at < 0) return null
  const goesOn = (line: string) =>
    line === '' || line.startsWith(`${margin} `) || /^[)\]}]/.test(line.slice(margin.length))
  let end = at + 1
  while (end < from[1] && goesOn(lines[end]) && !(depth > 0 && /^}/.test(lines[end]))) end++
  while (lines[end - 1] === '') end--
  if (names.length > 1) return declared(lines, names.slice(1), [at + 1, end], depth + 1)
  let start = at
  if (/\*\/$/.test(lines[start - 1] ?? ''))
    do start--
    while (!/^\s*\/\*\*/.test(lines[start]))
  return [start, end]
}
