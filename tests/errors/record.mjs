/**
 * Preloaded by `npx tsx tests/errors/page.ts --record`: every error that is made in our source, by whatever test and in whatever
 * process, is a line of the file that DEMASK_RECORD_ERRORS names: its message, its class, and the places it came from, in
 * the folders that DEMASK_RECORD_ROOMS names. Needs Node.
 */

import { appendFileSync } from 'node:fs'
import { relative, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const place = process.env.DEMASK_RECORD_ERRORS
const program = relative(root, process.argv[1] ?? '')
if (program.endsWith('.test.ts')) process.env.DEMASK_RECORD_TEST ??= program
const frame = new RegExp(`${root}/((?:${process.env.DEMASK_RECORD_ROOMS})/[\\w./-]+\\.ts):(\\d+):\\d+`)
const seen = new Set()

/** Writes down an error whose innermost frame, this file's aside, is one of our source. Its own stack is left alone. */
function note(error) {
  const here = {}
  Error.captureStackTrace(here)
  const frames = here.stack
    .split('\n')
    .filter(line => /^ {4}at /.test(line) && !line.includes('/tests/errors/record.mjs'))
    .slice(0, 4)
    .map(line => frame.exec(line))
  if (frames[0] === undefined || frames[0] === null) return
  const places = frames.filter(found => found !== null).map(([, file, line]) => ({ file, line: Number(line) }))
  const entry = { test: process.env.DEMASK_RECORD_TEST, name: error.constructor.name, message: error.message, places }
  const text = JSON.stringify(entry)
  const key = JSON.stringify(places)
  if (seen.has(key)) return
  seen.add(key)
  try {
    appendFileSync(place, `${text}\n`)
  } catch {
    // A test that fills the disk fills this one too.
  }
}

/** The same class, whose instances and whose subclasses' are noted. */
function watched(kind) {
  return new Proxy(kind, {
    construct(target, args, newTarget) {
      const error = Reflect.construct(target, args, newTarget)
      note(error)
      return error
    },
  })
}

if (place !== undefined)
  for (const name of ['Error', 'RangeError', 'TypeError']) globalThis[name] = watched(globalThis[name])
