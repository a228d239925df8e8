/** docs/ops.md, which is made from the op registry, says what the registry says now. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, registry } from '../../core/index.ts'
import { formulasOf } from '../../site/formula.ts'
import { opsPage } from '../../site/ops.ts'
import { read } from '../repo/markdown.ts'

/** Rows by their op, without the last column: which backends have a kernel depends on which can be opened here. */
const rows = (page: string) =>
  new Map(
    page
      .split('\n')
      .filter(line => line.startsWith('| [`'))
      .map(line => [/`(\w+)`/.exec(line)![1], line.replace(/\|[^|]*\|$/, '')]),
  )

test('the page is that of the registry', () => {
  const [committed, now] = [rows(read('docs/ops.md')), rows(opsPage([cpu]))]
  assert.is(now.size, registry().size)
  for (const [name, row] of now) assert.is(committed.get(name), row, 'npx tsx site/ops.ts writes it anew')
  assert.is(committed.size, now.size)
})

test('gradient rules become formulas', () => {
  assert.equal(formulasOf('(g, x) => mul(g, cos(x))'), ['g \\odot \\cos\\left(x\\right)'])
  assert.equal(formulasOf('(g, a, b) => [() => mul(g, b), () => mul(g, a)]'), ['g \\odot b', 'g \\odot a'])
  assert.equal(formulasOf('(g, y) => mul(g, affine(square(y), -1, 1))'), ['g \\odot \\left(1 - y^{2}\\right)'])
  assert.equal(formulasOf('(g, x) => zeroWhere(lessEqual(x, zero(x)), g)'), ['g \\odot [x > 0]'])
  assert.is(formulasOf('(g, _, __, [shape]) => [() => reshape(g, shape)]'), null)
})

test.run()
