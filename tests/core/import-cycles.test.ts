/**
 * Modules of core/ import each other in one direction at run time. Type-only imports may form cycles: the compiler erases
 * them.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const root = resolve(import.meta.dirname, '../..')

/** Static imports and re-exports of a source that exist at run time, as written. */
function runtimeImports(source: string): string[] {
  const statements = source.matchAll(/^(?:import|export) (?:(type )?(\{[^}]*\}|\*[^'{]*|\w+) from )?'([^']+)'/gm)
  return [...statements].flatMap(([, type, names, target]) => {
    const named = names?.startsWith('{') ? names.slice(1, -1).split(',') : []
    const types = named.length > 0 && named.every(name => name.trim() === '' || name.trim().startsWith('type '))
    return type !== undefined || types ? [] : [target]
  })
}

/** The first cycle of a graph, as the path that closes it; null where there is none. */
function cycleIn(edges: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>()
  const visit = (node: string, path: readonly string[]): string[] | null => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node]
    if (done.has(node)) return null
    for (const next of edges.get(node) ?? []) {
      const found = visit(next, [...path, node])
      if (found !== null) return found
    }
    done.add(node)
    return null
  }
  for (const node of edges.keys()) {
    const found = visit(node, [])
    if (found !== null) return found
  }
  return null
}

test('no module of core imports itself at run time, on whatever path', () => {
  const files = readdirSync(join(root, 'core'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && !name.endsWith('.as.ts'))
    .map(name => join(root, 'core', name))
  const edges = new Map(
    files.map(file => {
      const relatives = runtimeImports(readFileSync(file, 'utf8')).filter(target => target.startsWith('.'))
      return [file, relatives.map(target => resolve(file, '..', target))]
    }),
  )
  const count = [...edges.values()].reduce((sum, targets) => sum + targets.length, 0)
  assert.ok(files.length > 80 && count > 200, `${files.length} files, ${count} imports`)
  assert.is(
    cycleIn(edges)
      ?.map(file => relative(root, file))
      .join(' → ') ?? null,
    null,
  )
})

test('imports of types are told from others, and a cycle is found', () => {
  const source = [
    "import { a, type B } from './1.ts'",
    "import { type C, type D } from './2.ts'",
    "import type { E } from './3.ts'",
    'import {',
    '  f,',
    "} from './4.ts'",
    "export * from './5.ts'",
    "export type { G } from './6.ts'",
    "import './7.ts'",
    "import * as h from './8.ts'",
  ]
  assert.equal(runtimeImports(source.join('\n')), ['./1.ts', './4.ts', './5.ts', './7.ts', './8.ts'])
  const edges = (...list: [string, string[]][]) => new Map(list)
  assert.equal(cycleIn(edges(['a', ['b', 'c']], ['b', ['c']], ['c', ['d']], ['d', ['b']])), ['b', 'c', 'd', 'b'])
  assert.is(cycleIn(edges(['a', ['b', 'c']], ['b', ['c']], ['c', []])), null)
})

test.run()
