/**
 * docs/errors.md: every error message of the source with an example that a test made it give. Run `npx tsx
 * tests/errors/page.ts` after a message was changed, and with `--record [NAME…]` to find examples for those that have none: it
 * runs the tests (those whose path contains a NAME) with every error written down. Examples that still fit are kept. Needs Node.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { read, root } from '../repo/markdown.ts'
import { rooms } from '../repo/rooms.ts'
import { type Message, messages } from './messages.ts'

/** A message that was given, and the test that was running. */
export interface Example {
  readonly text: string
  readonly test: string
}

/** By `keyOf`. */
export type Examples = ReadonlyMap<string, Example>

/** Why there is no example: what would have to happen is not to be had in a test. */
const untested: readonly (readonly [RegExp, string])[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'untested.json'), 'utf8'),
).map(([pattern, why]: [string, string]) => [new RegExp(pattern), why])

/** Advice for messages that contain none. */
const advice: readonly (readonly [RegExp, string])[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'advice.json'), 'utf8'),
).map(([pattern, what]: [string, string]) => [new RegExp(pattern), what])

const head = `---
pageClass: long
---

# Errors

Find the cause of an error message. The page lists every message of the source, by folder and file; \`{…}\` stands for a value, and
below each message stands an example that a test produced. Programs print \`error: \` and the message on one line;
\`DEMASK_DEBUG=1\` adds the stack. \`npx tsx tests/errors/page.ts\` generates this page.

| exit code | means |
|---|---|
| 0 | success |
| 1 | an error: a file, the data, the memory |
| 2 | a mistake in the command line: an unknown command or flag, or a wrong value. A message about a flag begins with its name |
| 130, 143 | Ctrl-C or SIGTERM, after everything was saved. A second Ctrl-C ends the program at once, also with 130 |

| class | means |
|---|---|
| \`ShapeError\` | shapes that do not fit each other; a mistake in the calling code |
| \`RangeError\` | a number out of range; a mistake in the calling code or in a flag |
| \`UserError\` | a problem that the user can fix: a flag, a file, a full disk |
| \`UsageError\` | a \`UserError\` about the command line |
| \`UnreadablePicture\` | a picture that cannot be read; training skips it with a warning, or stops if \`--strict\` is set |
| \`SafetensorsError\`, \`PickleError\`, \`ZipError\` | a damaged file, or a file of another format |
| \`Error\` | an operation that this machine does not support, or a call at the wrong time |
`

/** Key of a message, independent of its place in the file. */
export function keyOf({ file, within, kind, template }: Message): string {
  return `${file} ${within} ${kind} ${template}`
}

/** Messages that one file has twice in the same function are one. */
export function distinct(all: readonly Message[]): Message[] {
  return [...new Map(all.map(message => [keyOf(message), message])).values()]
}

/** The page. */
export function errorsPage(examples: Examples): string {
  const all = distinct(messages())
  const files = [...new Set(all.map(({ file }) => file))]
  const folders = [...new Set(files.map(file => file.split('/')[0]))]
  const sections = folders.map(folder => {
    const parts = files
      .filter(file => file.startsWith(`${folder}/`))
      .map(file => {
        const entries = all.filter(message => message.file === file).map(message => entry(message, examples))
        return `### ${file}\n\n[source](../${file})\n\n${entries.join('\n')}\n`
      })
    return `## ${folder}\n\n${parts.join('\n')}`
  })
  return `${head}\n${sections.join('\n')}`
}

function entry(message: Message, examples: Examples): string {
  const { within, kind, template } = message
  const lines = [`- ${code(template)} (${kind} of \`${within}\`)`]
  const what = advice.find(([pattern]) => pattern.test(template))?.[1]
  if (what !== undefined) lines.push(`  - ${what}`)
  const example = examples.get(keyOf(message))
  if (example !== undefined) lines.push(`  - ${code(example.text)}: [${example.test}](../${example.test})`)
  else lines.push(`  - not in the tests: ${whyNot(message) ?? 'no example yet'}`)
  return lines.join('\n')
}

/** The reason why a message has no example; undefined where it should have one. */
export function whyNot(message: Message): string | undefined {
  return untested.find(([pattern]) => pattern.test(keyOf(message)))?.[1]
}

/** Markdown's inline code, for text with backquotes too. */
function code(text: string): string {
  return text.includes('`') ? `\`\` ${text} \`\`` : `\`${text}\``
}

/** The examples that a page has. */
export function examplesOf(page: string): Map<string, Example> {
  const found = new Map<string, Example>()
  let file = ''
  let key = ''
  for (const line of page.split('\n')) {
    file = /^### (.*)$/.exec(line)?.[1] ?? file
    const head = /^- (`+)( ?)(.*)\2\1 \((\w+) of `([^`]+)`\)$/.exec(line)
    if (head !== null) key = `${file} ${head[5]} ${head[4]} ${head[3]}`
    const example = /^ {2}- (`+)( ?)(.*)\2\1: \[(.*)\]\(.*\)$/.exec(line)
    if (example !== null) found.set(key, { text: example[3], test: example[4] })
  }
  return found
}

/** A line of what record.mjs writes. */
interface Recorded {
  readonly test?: string
  readonly message: string
  readonly places: readonly { readonly file: string; readonly line: number }[]
}

/** The messages that were recorded, for those of the source that gave them: the one whose lines are nearest to the error. */
export function examplesIn(recorded: readonly Recorded[], all: readonly Message[]): Map<string, Example> {
  const found = new Map<string, Example>()
  for (const { test, message, places } of recorded) {
    const text = shown(message)
    if (test === undefined || text.length > 1000) continue
    const hits = places.flatMap(({ file, line }) =>
      all.filter(({ file: own, lines: [from, to] }) => own === file && from <= line && line <= to),
    )
    const hit = hits.find(({ pattern }) => pattern.test(text))
    const before = hit && found.get(keyOf(hit))
    // A test of its own rather than the fuzzer's bytes, and the shortest.
    const rank = (example: Example) => (example.test.includes('fuzz') ? 1000 : 0) + example.text.length
    if (hit !== undefined && (before === undefined || rank({ text, test }) < rank(before)))
      found.set(keyOf(hit), { text, test })
  }
  return found
}

/** A message on one line, without the folders of this machine. */
function shown(message: string): string {
  return message
    .replaceAll(`${root}/`, '')
    .replaceAll(new RegExp(`${tmpdir()}/demask-[\\w-]+(\\.tmp)?`, 'g'), '…')
    .replaceAll(new RegExp(`${tmpdir()}/`, 'g'), '…/')
    .replace(/\s*\n\s*/g, ' ')
    .trim()
}

/** Runs tests with errors written down, and gives what was. */
function record(names: readonly string[]): Recorded[] {
  const place = join(root, 'runs/errors.jsonl')
  mkdirSync(join(root, 'runs'), { recursive: true })
  rmSync(place, { force: true })
  const hook = pathToFileURL(join(import.meta.dirname, 'record.mjs')).href
  const env = {
    ...process.env,
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import ${hook}`,
    DEMASK_RECORD_ERRORS: place,
    DEMASK_RECORD_ROOMS: rooms.join('|'),
  }
  spawnSync(process.execPath, [...process.execArgv, join(root, 'tests/run.ts'), ...names], { stdio: 'inherit', env })
  return existsSync(place)
    ? readFileSync(place, 'utf8')
        .trim()
        .split('\n')
        .map(line => JSON.parse(line))
    : []
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const path = join(root, 'docs/errors.md')
  const all = messages()
  const kept = existsSync(path) ? examplesOf(read('docs/errors.md')) : new Map<string, Example>()
  const [flag, ...names] = process.argv.slice(2)
  const recorded = flag === '--record' ? examplesIn(record(names), all) : new Map<string, Example>()
  writeFileSync(path, errorsPage(new Map([...recorded, ...kept])))
  const left = distinct(all).filter(message => !recorded.has(keyOf(message)) && !kept.has(keyOf(message)))
  for (const message of left) if (whyNot(message) === undefined) console.log(`no example: ${keyOf(message)}`)
  console.log(`${distinct(all).length} messages, ${left.length} without an example`)
}
