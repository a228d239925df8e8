/** `npm run mutate`: its changes, the code it leaves alone, and its choice of mutants. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { changeOf, mutantsOf, mutated } from './mutants.ts'
import { equivalents, files, isEquivalent, population, sample, testsOf, wilson } from './plan.ts'

/** Mutants of a source. */
const after = (source: string) => mutantsOf('a.ts', source).map(mutant => mutated(source, mutant))

test('operators, numbers, booleans, bounds, statements and the order of operands are changed', () => {
  assert.equal(after('const x = a + b'), ['const x = a - b'])
  assert.equal(after('const x = a < b'), ['const x = a <= b', 'const x = a >= b'])
  assert.equal(after('const x = a === b'), ['const x = a !== b'])
  assert.equal(after('const x = a && !b'), ['const x = a || !b', 'const x = a && b'])
  assert.equal(after('const x = a ?? 4'), ['const x = a && 4', 'const x = a ?? (5)', 'const x = a ?? (3)'])
  assert.equal(after('const x = -Math.min(a, true)'), [
    'const x = Math.min(a, true)',
    'const x = -Math.max(a, true)',
    'const x = -Math.min(a, false)',
  ])
  assert.equal(after('const x = c ? a : b'), ['const x = !(c) ? a : b'])
  assert.equal(after('x += y'), [';', 'x -= y'])
  assert.equal(after('if (c) throw d\nf()'), [';\nf()', 'if (c) throw d\n;'])
  assert.equal(after('const x = sub(a, b)'), ['const x = sub(b, a)'])
})

test('types, imports, strings, comments, errors and samples are left alone', () => {
  for (const source of [
    "import { a } from '../b-1.ts'",
    'type T = 1 | 2',
    'const x: 3 = y as 3 // 1 + 1',
    'const x = `a 1` + y',
    'function f(x: number): void { throw new Error(`got $' + '{x + 1}`) }',
    'const op = { samples: r => [r(3, 1)] }',
    'const shapes = [3]\nconst op = { samples: r => shapes.map(r) }',
    'for (const x of y);',
  ])
    assert.equal(after(source), [], source)
})

test('a sample takes from every file by its share, and is the seed’s', () => {
  const all = population()
  const chosen = sample(all, 300, 0)
  assert.is(new Set(chosen).size, 300)
  assert.equal(chosen, sample(all, 300, 0))
  assert.not.equal(chosen, sample(all, 300, 1))
  for (const file of files()) {
    const count = (mutants: typeof all) => mutants.filter(mutant => mutant.file === file).length
    const share = (300 * count(all)) / all.length
    assert.ok(Math.abs(count(chosen) - share) < 1, `${file}: ${count(chosen)} of ${share}`)
  }
  for (const mutant of chosen.slice(0, 10)) assert.ok(testsOf(mutant).length > 2)
})

test('what is listed as equivalent is there, with a reason', () => {
  const all = population()
  for (const { file, line, change, reason } of equivalents()) {
    assert.ok(
      all.some(mutant => mutant.file === file && mutant.text === line && changeOf(mutant) === change),
      `${file}: no mutant ${change} of '${line}'`,
    )
    assert.ok(reason.length > 20, `${file}: ${change}: why?`)
  }
  assert.is(all.filter(isEquivalent).length >= equivalents().length, true)
})

test("Wilson's interval", () => {
  // Newcombe 1998, table I: 81 of 263 and 15 of 148, to four digits.
  for (const [hits, count, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
  ]) {
    const [a, b] = wilson(hits, count)
    assert.ok(Math.abs(a - low) < 6e-5 && Math.abs(b - high) < 6e-5, `${a} ${b}`)
  }
})

test.run()
