/** Training leaves the wasm backend's memory as it was, for every model, and never falls back to plain loops. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { growing, growthOf } from '../../bench/growth.ts'

for (const [name, make] of Object.entries(growing))
  test(`${name}: as many bytes after step 9 as after step 4, and no plain loops`, async () => {
    const { marks, fallbacks } = await growthOf(make, [4, 9])
    const [first, last] = marks
    assert.ok(first.bytes > 1e5)
    assert.is(last.bytes, first.bytes)
    // Holes between blocks may cost something where shapes change from step to step.
    assert.ok(last.linear <= first.linear + (16 << 20), `${first.linear} became ${last.linear}`)
    assert.is(fallbacks, 0)
  })

test.run()
