/**
 * `npm run gradcheck [op…]`: a table of every op (or of those named) with the worst relative error of its first and
 * second derivatives over its samples, in f64. Exit code 1 when one is above 1e-6, or when a name is unknown.
 */

import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { gradcheckOp } from '../core/gradcheck.ts'
import { registry } from '../core/index.ts'

const limit = 1e-6

const show = (error: number | undefined) => (error === undefined ? '–' : error.toExponential(1)).padStart(10)

await main(() => {
  const ops = registry()
  const { op: named } = readFlags({
    command: 'npm run gradcheck --',
    about: 'The worst relative error of the derivatives of ops, against differences in f64.',
    operands: {
      op: { about: 'these; all where there is none', choices: [...ops.keys()].sort(), many: true, optional: true },
    },
    flags: {},
    examples: [
      ['', 'all ops'],
      ['softmax matmul', 'two of them'],
    ],
  })
  const names = named.length > 0 ? named : [...ops.keys()].sort()
  let failures = 0
  console.log(`${'op'.padEnd(24)}${'first'.padStart(10)}${'second'.padStart(10)}`)
  for (const name of names) {
    const { first, second } = gradcheckOp(ops.get(name)!)
    const wrong = [first, second].some(error => error !== undefined && !(error <= limit))
    if (wrong) failures++
    console.log(`${name.padEnd(24)}${show(first)}${show(second)}${wrong ? '  FAIL' : ''}`)
  }
  console.log(failures === 0 ? `all within ${limit}` : `${failures} above ${limit}`)
  if (failures > 0) process.exitCode = 1
})
