/**
 * `npm run gradcheck [op…]`: a table of every op (or of those named) with the worst relative error of its first and
 * second derivatives over its samples, in f64. Exit code 1 when one is above 1e-6, or when a name is unknown.
 */

import { gradcheckOp } from '../core/gradcheck.ts'
import { registry } from '../core/index.ts'

const limit = 1e-6
const ops = registry()
const names = process.argv.slice(2)
const unknown = names.filter(name => !ops.has(name))
if (unknown.length > 0) {
  console.error(`gradcheck: no op named ${unknown.join(', ')}; there are ${[...ops.keys()].sort().join(', ')}`)
  process.exit(1)
}

const show = (error: number | undefined) => (error === undefined ? '–' : error.toExponential(1)).padStart(10)

let failures = 0
console.log(`${'op'.padEnd(24)}${'first'.padStart(10)}${'second'.padStart(10)}`)
for (const name of names.length > 0 ? names : [...ops.keys()].sort()) {
  const { first, second } = gradcheckOp(ops.get(name)!)
  const wrong = [first, second].some(error => error !== undefined && !(error <= limit))
  if (wrong) failures++
  console.log(`${name.padEnd(24)}${show(first)}${show(second)}${wrong ? '  FAIL' : ''}`)
}
console.log(failures === 0 ? `all within ${limit}` : `${failures} above ${limit}`)
process.exitCode = failures === 0 ? 0 : 1
