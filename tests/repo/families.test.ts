/**
 * Outside models/ and tests/, code knows a family by its record alone: no file compares a family's name or a record, or uses
 * `instanceof` on a model's class. Reads the source. Needs Node.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import * as models from '../../models/index.ts'
import { Module } from '../../nn/index.ts'
import { read, root } from './markdown.ts'
import { rooms } from './rooms.ts'
import { below, child, lineAt, list, type Node, parse } from './syntax.ts'

const names = models.families.map(({ name }) => name)
const exported = Object.entries<unknown>(models)
const records = exported.filter(([, value]) => models.families.includes(value as models.Family)).map(([name]) => name)
const classes = exported
  .filter(([, value]) => typeof value === 'function' && value.prototype instanceof Module)
  .map(([name]) => name)

const comparing = new Set(['===', '!==', '==', '!='])
const searching = new Set(['includes', 'startsWith', 'endsWith', 'indexOf', 'match', 'test'])

const isName = (node: Node) => node.type === 'Literal' && names.includes(node.value as string)
const isRecord = (node: Node) => node.type === 'Identifier' && records.includes(node.name as string)

/** True if a node decides by family. */
function decides(node: Node): boolean {
  if (node.type === 'BinaryExpression') {
    const sides = [child(node, 'left'), child(node, 'right')]
    if (node.operator === 'instanceof') return classes.includes(sides[1].name as string)
    return comparing.has(node.operator as string) && sides.some(side => isName(side) || isRecord(side))
  }
  if (node.type === 'SwitchCase') return node.test !== null && isName(child(node, 'test'))
  if (node.type !== 'CallExpression' || child(node, 'callee').type !== 'MemberExpression') return false
  return searching.has(child(child(node, 'callee'), 'property').name as string) && list(node, 'arguments').some(isName)
}

/** Places of a source where code decides by family. */
function decisions(file: string, source: string): string[] {
  const found: string[] = []
  const visit = (node: Node) => {
    if (decides(node)) found.push(`${file}:${lineAt(source, node.start)}: ${source.slice(node.start, node.end)}`)
    for (const each of below(node)) visit(each.node)
  }
  visit(parse(file, source))
  return found
}

/** Sources by file: TypeScript, and the scripts of components. */
function sources(): (readonly [file: string, source: string])[] {
  return [...rooms, 'bench', 'site', '.ci']
    .filter(folder => folder !== 'models')
    .flatMap(folder =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(name => `${folder}/${name}`),
    )
    .filter(
      file => /\.(ts|vue)$/.test(file) && !/node_modules|\.as\.ts$|\/generated\/|\.vitepress\/(cache|dist)/.test(file),
    )
    .map(file => {
      const text = read(file)
      return [file, file.endsWith('.vue') ? (/<script[^>]*>(.*?)<\/script>/s.exec(text)?.[1] ?? '') : text] as const
    })
}

test('no file outside models and tests decides by a family', () => {
  const all = sources()
  assert.ok(all.some(([file]) => file === 'cli/sample.ts') && all.some(([file]) => file.endsWith('.vue')))
  assert.equal(
    all.flatMap(([file, source]) => decisions(file.replace(/\.vue$/, '.vue.ts'), source)),
    [],
  )
})

test('each way to decide by a family is found', () => {
  assert.equal(names, ['DiT', 'MDT', 'MDTv2', 'MaskDiT', 'MaskDM'])
  assert.is(records.length, names.length)
  for (const name of ['DiT', 'MDT', 'MDTv2', 'PreconditionedMaskDiT', 'MaskedUViT', 'MaskedDiffusionTransformer'])
    assert.ok(classes.includes(name), name)
  for (const code of [
    "if (family.name === 'MaskDiT') f()",
    "const x = 'MDT' !== name ? 1 : 2",
    "switch (name) { case 'DiT': f() }",
    'if (model instanceof MaskedUViT) f()',
    'const x = found.family === maskDM',
    "if (title.includes('MDTv2')) f()",
  ])
    assert.is(decisions('x.ts', code).length, 1, code)
  for (const code of ["console.log('MDT')", "x === 'mdt'", 'error instanceof RangeError', 'mdt.make(options, init)'])
    assert.equal(decisions('x.ts', code), [], code)
})

test.run()
