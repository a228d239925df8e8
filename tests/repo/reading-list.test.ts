/**
 * docs/reading-list.md: every file exports its name at the line of the link, and a picture becomes a grid in 25 files, each
 * reached by a name that an earlier one imports.
 */

import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { read, readingList, stop } from './markdown.ts'

interface Entry {
  readonly path: string
  /** The name by which an earlier file imports something of this one; '' for the program. */
  readonly name: string
}

const page = read('docs/reading-list.md')

/** Rows of the tables in a part of the page. */
function entriesOf(text: string): readonly Entry[] {
  return [...text.matchAll(stop)].map(([, , path, , name = '']) => ({ path, name }))
}

const [, hour, afternoon, week] = page.split(/^## /m)
const entries = entriesOf(afternoon)

/** Names that a file imports or exports from another one, by that file's path. */
function namesFrom(path: string, keyword: 'import' | 'export'): ReadonlyMap<string, readonly string[]> {
  const statements = read(path).matchAll(new RegExp(`^${keyword} (?:type )?\\{([^}]*)\\} from '(\\.[^']+)'`, 'gm'))
  return new Map(
    Array.from(statements, ([, names, target]) => [
      join(path, '..', target),
      names.split(',').map(name =>
        name
          .trim()
          .replace(/^type /, '')
          .replace(/ as .*/, ''),
      ),
    ]),
  )
}

/** True if `from` imports `name` of `path`, by itself or through an index. */
function imports(from: string, { path, name }: Entry): boolean {
  return [...namesFrom(from, 'import')].some(([target, names]) => {
    if (!names.includes(name)) return false
    return target === path || (target.endsWith('/index.ts') && reExports(target, { path, name }))
  })
}

function reExports(index: string, { path, name }: Entry): boolean {
  return [...namesFrom(index, 'export')].some(([target, names]) => target === path && names.includes(name))
}

test('every stop links to the line that declares its name', () => {
  assert.is(page, readingList(), 'npx tsx tests/repo/markdown.ts writes the current lines')
  for (const text of [hour, week])
    assert.is(text.match(/^\| \[/gm)?.length, entriesOf(text).length, 'rows of another form')
})

test('the way of a picture is of at most 25 files, each once', () => {
  assert.ok(entries.length > 20 && entries.length <= 25, `${entries.length} files`)
  assert.is(new Set(entries.map(({ path }) => path)).size, entries.length)
  assert.is(afternoon.match(/^\| \[/gm)?.length, entries.length, 'rows of another form')
})

for (const [i, entry] of entries.entries())
  test(`${entry.path} is reached from a file above it`, () => {
    if (i === 0) return void assert.is(entry.name, '')
    const before = entries.slice(0, i).map(({ path }) => path)
    assert.ok(
      before.some(path => imports(path, entry)),
      `${entry.name} in one of ${before}`,
    )
  })

test('it begins with a program and ends with the grid', () => {
  assert.match(entries[0].path, /^examples\//)
  assert.is(entries.at(-1)!.name, 'writeGrid')
})

test.run()
