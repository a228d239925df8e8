/** docs/reading-list.md: from a picture to a grid in 25 files, each reached by a name that an earlier one imports. */

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
const entries: readonly Entry[] = [...page.matchAll(/^\| \[(.+?)\]\(\.\.\/(.+?)\) \| (?:`(\w+)`)? ?\| \S.* \|$/gm)].map(
  ([, title, path, name = '']) => {
    assert.is(title, path)
    return { path, name }
  },
)

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

test('the list is of at most 25 files, each once', () => {
  assert.ok(entries.length > 20 && entries.length <= 25, `${entries.length} files`)
  assert.is(new Set(entries.map(({ path }) => path)).size, entries.length)
  assert.is(page.match(/^\| \[/gm)?.length, entries.length, 'rows of another form')
})

for (const [i, entry] of entries.entries())
  test(`${entry.path} is reached from a file above it`, () => {
    if (i === 0) return void assert.is(entry.name, '')
    assert.match(read(entry.path), new RegExp(`^export (async )?(function\\*?|const|class) ${entry.name}\\b`, 'm'))
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
