/**
 * A reader of comma-separated values [RFC 4180]: fields in quotes may hold commas, line breaks and doubled quotes. Lines end
 * with CR LF, LF or CR; empty lines are skipped. Runs anywhere.
 */

import { UserError } from '../io/user-error.ts'

/** One record. */
export interface CsvRecord {
  /** Its first line in the file, from 1. */
  readonly line: number
  readonly fields: readonly string[]
}

/** Yields the records of `text`. Throws UserError, with `where` and the line, on quotes that do not surround a field. */
export function* csvRecords(text: string, where: string): Generator<CsvRecord, void> {
  let [at, line] = [0, 1]
  while (at < text.length) {
    const first = line
    const fields: string[] = []
    let end: string
    do {
      const field = text[at] === '"' ? quoted(text, at, `${where}:${line}`) : plain(text, at, `${where}:${line}`)
      fields.push(field.value)
      line += field.value.split(/\r\n|\n|\r/).length - 1
      at = field.end
      end = text.startsWith('\r\n', at) ? '\r\n' : (text[at] ?? '')
      at += end.length
    } while (end === ',')
    line++
    if (fields.length > 1 || fields[0] !== '') yield { line: first, fields }
  }
}

interface Field {
  readonly value: string
  /** Where the comma or the end of the line after it is. */
  readonly end: number
}

/** The field in quotes that begins at `at`. */
function quoted(text: string, at: number, where: string): Field {
  let value = ''
  for (let from = at + 1; ; ) {
    const quote = text.indexOf('"', from)
    if (quote < 0) throw new UserError(`${where}: expected a quote that ends the field, got the end of the file`)
    value += text.slice(from, quote)
    const after = text[quote + 1]
    if (after === '"') {
      value += '"'
      from = quote + 2
    } else if (after === undefined || /[,\r\n]/.test(after)) return { value, end: quote + 1 }
    else throw new UserError(`${where}: expected a comma after the quote that ends a field, got '${after}'`)
  }
}

/** The field without quotes that begins at `at`. */
function plain(text: string, at: number, where: string): Field {
  const ends = /[",\r\n]|$/g
  ends.lastIndex = at
  const end = ends.exec(text)!.index
  if (text[end] !== '"') return { value: text.slice(at, end), end }
  throw new UserError(`${where}: expected quotes around a whole field, got one within '${text.slice(at, end + 1)}'`)
}
