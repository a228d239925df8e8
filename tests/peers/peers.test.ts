/**
 * Recorded cases of PyTorch's own tests: values, gradients and second derivatives on `cpu` in f64 and f32 and on `wasm`. All
 * cases, with a Python at hand: `npm run peers:pytorch`, whose `--record` wrote these.
 */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { openCases } from './cases.ts'
import { compareAll, compareCase, places } from './compare.ts'
import { explanationOf } from './explained.ts'

const folders = ['pytorch-ops', 'pytorch-functions'].map(name => join(import.meta.dirname, '../fixtures', name))
const recorded = folders.map(openCases)
const [cases] = recorded
const all = await places()

for (const [name, place] of Object.entries(all))
  test(`PyTorch's samples on ${name}`, () => {
    const outcomes = recorded.map(cases => compareAll(cases, place))
    const differences = outcomes.flatMap(outcome => outcome.differences)
    const compared = outcomes.reduce((sum, outcome) => sum + outcome.compared, 0)
    const open = differences.filter(difference => explanationOf(difference) === undefined)
    assert.ok(open.length === 0, `\n${open.map(({ op, tag, text }) => `${op} (${tag}): ${text}`).join('\n')}`)
    assert.ok(compared > 850, `${compared} cases`)
  })

test('a wrong value, gradient, second derivative or shape is found', () => {
  const place = all['cpu f64']
  const given = cases.cases.find(({ op, second }) => op === 'mul' && second !== undefined)!
  const differences = (change: object) =>
    compareCase(cases, { ...given, ...change }, place).map(({ quantity, kind }) => `${quantity} ${kind}`)
  assert.equal(differences({}), [])
  assert.equal([...new Set(differences({ call: 'add' }))], ['values value', 'first value', 'second value'])
  assert.equal([...new Set(differences({ first: given.first!.toReversed() }))], ['first value'])
  assert.equal(differences({ values: [...given.values, ...given.values] }), ['values shape'])
  assert.equal(differences({ call: 'none' }), ['values threw'])
})

test('the record is at most 2 MB', () => {
  const size = folders
    .flatMap(folder => ['cases.json', 'tensors.bin'].map(name => statSync(join(folder, name)).size))
    .reduce((a, b) => a + b, 0)
  assert.ok(size <= 2e6, `${size} bytes`)
})

test.after(() => {
  for (const { backend } of Object.values(all)) backend.dispose()
})

test.run()
