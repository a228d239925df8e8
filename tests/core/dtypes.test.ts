/** docs/dtypes.md lists the ops that are exact on i32 and those that refuse it, as the registry has them. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { registry } from '../../core/index.ts'
import { untyped } from '../../core/op.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/dtypes.md'), 'utf8')

/** The ops in the row of the table that begins with `head`. */
function listed(head: string): string[] {
  const row = page.split('\n').find(line => line.startsWith(`| ${head} |`)) ?? ''
  return [...row.matchAll(/`(\w+)`/g)].map(match => match[1])
}

for (const [head, exact] of [
  ['exact', true],
  ['refused', undefined],
] as const)
  test(`the ops that are ${head} on i32`, () => {
    const names = [...registry().values()].filter(op => untyped(op).integers === exact).map(op => op.name)
    assert.equal(listed(head), names.sort())
    assert.ok(names.length > 20)
  })

test.run()
