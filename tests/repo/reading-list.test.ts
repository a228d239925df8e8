/**
 * docs/reading-list.md: every file has its name, and a picture goes to a grid in 25 files, each reached by a name that an
 * earlier one imports.
 */

import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { read } from './markdown.ts'

interface Entry {
  readonly path: string
  /** The name by which an earlier file imports something of this one; '' for the program. */
  readonly name: string
}

const page = read('docs/reading-list.md')

/** Rows of the tables in a part of the page. */
function entriesOf(text: string): readonly Entry[] {
  return [...text.matchAll(/^\| \[(.+?)\]\(\.\.\/(.+?)\) \| (?:`(\w+)`)? ?\| \S.* \|$/gm)].map(
    ([, title, path, name = '']) => {
      assert.is(title, path)
      return { path, name }
    },
  )
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

/** Throws unless a file exports the name of its entry. */
function checkName({ path, name }: Entry): void {
  assert.match(
    read(path),
    new RegExp(`^export (async )?(function\\*?|(abstract )?class|const|interface) ${name}\\b`, 'm'),
    path,
  )
}

test('every file of the other routes has its name', () => {
  for (const text of [hour, week]) {
    assert.is(text.match(/^\| \[/gm)?.length, entriesOf(text).length, 'rows of another form')
    for (const entry of entriesOf(text)) checkName(entry)
  }
})

test('the way of a picture is of at most 25 files, each once', () => {
  assert.ok(entries.length > 20 && entries.length <= 25, `${entries.length} files`)
  assert.is(new Set(entries.map(({ path }) => path)).size, entries.length)
  assert.is(afternoon.match(/^\| \[/gm)?.length, entries.length, 'rows of another form')
})

for (const [i, entry] of entries.entries())
  test(`${entry.path} is reached from a file above it`, () => {
    if (i === 0) return void assert.is(entry.name, '')
    checkName(entry)
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
