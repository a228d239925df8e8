/** adaLN-Zero by the formulas of the chapter on layers gives the values and gradients of the tape. Needs Node. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng } from '../../core/index.ts'
import { type AdalnInputs, byFormula, byTape, chapterInputs, distance } from '../../site/playground/adaln.ts'

test('the formulas give what the tape gives, on the chapter’s numbers and on random ones', () => {
  assert.ok(distance(byFormula(chapterInputs), byTape(chapterInputs)) < 1e-12)
  const random = rng(1)
  const three = () => Array.from(random.normalArray(3))
  for (let trial = 0; trial < 20; trial++) {
    const inputs: AdalnInputs = { token1: three(), token2: three(), gamma: three(), beta: three(), alpha: three() }
    const [formula, tape] = [byFormula(inputs), byTape(inputs)]
    const size = Math.max(...Object.values(tape.gradients).flat().map(Math.abs))
    assert.ok(distance(formula, tape) < 1e-12 * Math.max(1, size), `trial ${trial}: ${distance(formula, tape)}`)
    assert.ok(Math.abs(formula.loss / tape.loss - 1) < 1e-12)
  }
})

test('other inputs are an error that names them', () => {
  for (const run of [byFormula, byTape]) {
    const wrong = (inputs: Partial<AdalnInputs>) => () => run({ ...chapterInputs, ...inputs })
    assert.throws(wrong({ gamma: [1, 2] }), /^gamma: expected three numbers, got \[1,2\]$/)
    assert.throws(wrong({ beta: [1, 2, Number.NaN] }), /^beta: expected three numbers/)
    assert.throws(wrong({ token1: [2, 2, 2] }), /^token1: expected numbers that are not all equal, got 2,2,2/)
  }
})

test.run()
