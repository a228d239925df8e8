/**
 * Pictures and their classes as a file lists them: CSV or JSON Lines, a picture a row. Needs Node. The columns are `path`, or
 * `file_name` as Hugging Face calls it, and `label`. Paths are relative to the file. A CSV needs no header if its rows are a
 * path and a label, or a path alone. Nothing but the list is opened here; folder.ts opens the pictures.
 */

import { readFileSync } from 'node:fs'
import { basename, dirname, extname, resolve } from 'node:path'
import { aString, check } from '../core/arguments.ts'
import { reason, UserError } from '../io/user-error.ts'
import { csvRecords } from './csv.ts'
import { isPicture, type Listing } from './list-pictures.ts'

const pathColumns = ['path', 'file_name']
const labelColumn = 'label'

/** True for the path of a list of pictures. */
export function isList(path: string): boolean {
  check('isList', 'path', path, aString)
  return /\.(csv|jsonl)$/i.test(path)
}

interface Row {
  /** Line of the file, from 1. */
  readonly line: number
  readonly path: string
  /** Undefined in a list without labels. */
  readonly label: string | undefined
}

interface Rows {
  readonly rows: readonly Row[]
  /** Columns that have no meaning here. */
  readonly unused: readonly string[]
}

/**
 * The pictures in the list `path`, a .csv or .jsonl, in its order. Classes are sorted, as numbers if all are. A list without
 * labels is one class, under its own name. Throws UserError, with the line, on a row that is not as the others are.
 */
export function listRows(path: string): Listing {
  const text = readText(path)
  const { rows, unused } = /\.csv$/i.test(path) ? csvRows(text, path) : jsonRows(text, path)
  if (rows.length === 0) throw new UserError(`${path}: expected a picture in each row, got no rows`)
  for (const { line, path: picture, label } of rows) {
    if (picture === '') throw new UserError(`${path}:${line}: expected the path of a picture, got none`)
    if (label === '' || (label === undefined && rows[0].label !== undefined))
      throw new UserError(`${path}:${line}: expected a label, got none`)
    if (label !== undefined && rows[0].label === undefined)
      throw new UserError(`${path}:${line}: expected no label, as in line ${rows[0].line}, got ${label}`)
  }
  const own = basename(path, extname(path))
  const classes = sorted(new Set(rows.map(({ label = own }) => label)))
  const labels = new Map(classes.map((name, label) => [name, label]))
  const folder = dirname(path)
  return {
    files: rows.map(({ path: picture, label = own }) => ({
      path: resolve(folder, picture),
      label: labels.get(label)!,
    })),
    classes,
    notes: unused.length === 0 ? [] : [`left out: the columns ${unused.join(', ')}`],
  }
}

function readText(path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path)) // drops a byte order mark
  } catch (error) {
    const why = error instanceof TypeError ? 'it is not UTF-8' : reason(error)
    throw new UserError(`${path}: expected a list of pictures: ${why}`)
  }
}

function csvRows(text: string, path: string): Rows {
  const [first, ...rest] = csvRecords(text, path)
  if (first === undefined) return { rows: [], unused: [] }
  const names = first.fields.map(name => name.trim().toLowerCase())
  const hasHeader = names.some(name => pathColumns.includes(name))
  if (!hasHeader && (names.length > 2 || !isPicture(first.fields[0])))
    throw new UserError(
      `${path}:${first.line}: expected a header with 'path' and 'label', or a path and a label, got ${first.fields.join(', ')}`,
    )
  const pathAt = hasHeader ? names.findIndex(name => pathColumns.includes(name)) : 0
  const labelAt = hasHeader ? names.indexOf(labelColumn) : names.length - 1 || -1
  const rows = (hasHeader ? rest : [first, ...rest]).map(({ line, fields }) => {
    if (fields.length !== names.length)
      throw new UserError(
        `${path}:${line}: expected ${names.length} fields, as the first row has, got ${fields.length}`,
      )
    return { line, path: fields[pathAt], label: labelAt < 0 ? undefined : fields[labelAt] }
  })
  return { rows, unused: first.fields.filter((_, i) => hasHeader && i !== pathAt && i !== labelAt) }
}

function jsonRows(text: string, path: string): Rows {
  const unused = new Set<string>()
  const rows = text.split(/\r\n|\n/).flatMap((json, i): Row[] => {
    if (json.trim() === '') return []
    const where = `${path}:${i + 1}`
    const record = parseObject(json, where)
    const pathKey = pathColumns.find(name => name in record) ?? pathColumns[0]
    const [picture, label] = [record[pathKey], record[labelColumn]]
    if (typeof picture !== 'string')
      throw new UserError(
        `${where}: expected the path of a picture as "path", got ${JSON.stringify(picture) ?? 'none'}`,
      )
    if (label !== undefined && typeof label !== 'string' && !Number.isSafeInteger(label))
      throw new UserError(`${where}: expected a label of text or a whole number, got ${JSON.stringify(label)}`)
    for (const name of Object.keys(record)) if (name !== pathKey && name !== labelColumn) unused.add(name)
    return [{ line: i + 1, path: picture, label: label === undefined ? undefined : String(label) }]
  })
  return { rows, unused: [...unused] }
}

function parseObject(json: string, where: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    throw new UserError(`${where}: expected a JSON object: ${reason(error)}`)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw new UserError(`${where}: expected a JSON object, got ${json.slice(0, 60)}`)
}

/** By number if all are whole numbers, else by code units. */
function sorted(labels: ReadonlySet<string>): string[] {
  const all = [...labels]
  if (all.every(label => /^\d{1,15}$/.test(label))) return all.sort((a, b) => Number(a) - Number(b) || (a < b ? -1 : 1))
  return all.sort()
}
