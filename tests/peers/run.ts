/**
 * `npm run peers:pytorch`: the samples of PyTorch's own operator, module and optimizer tests on `cpu` in f64 and f32 and on
 * `wasm`, against PyTorch's values, gradients and second derivatives. Needs a Python with torch, numpy and expecttest:
 * DEMASK_PYTHON, else python3. Prints every difference without an explanation and ends with exit code 1 if there is one.
 * `-- --record` also writes small cases to tests/fixtures/pytorch-ops and pytorch-functions, which peers.test.ts reads.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { main } from '../../cli/main.ts'
import { UserError } from '../../io/user-error.ts'
import { openCases } from './cases.ts'
import { compareAll, places } from './compare.ts'
import { explanationOf, explanations } from './explained.ts'
import { recordCases } from './record.ts'

/** Writes the samples to a folder. */
function writeSamples(folder: string): void {
  const python = process.env.DEMASK_PYTHON ?? 'python3'
  const script = join(import.meta.dirname, 'pytorch_samples.py')
  const { status } = spawnSync(python, [script, folder], { stdio: 'inherit' })
  if (status !== 0)
    throw new UserError(`peers: expected a Python with torch, numpy and expecttest, got '${python}'; set DEMASK_PYTHON`)
}

await main(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'demask-peers-'))
  try {
    writeSamples(folder)
    const cases = openCases(folder)
    if (process.argv.includes('--record')) {
      recordCases(cases, 'ops', 10, join(import.meta.dirname, '../fixtures/pytorch-ops'))
      recordCases(cases, 'functions', 6, join(import.meta.dirname, '../fixtures/pytorch-functions'))
    }
    const unsupported = Object.values(cases.unsupported).reduce((sum, n) => sum + n, 0)
    console.log(`PyTorch ${cases.torch}; ${unsupported} more samples have options that demask lacks`)
    const used = new Set<unknown>()
    let unexplained = 0
    for (const [name, place] of Object.entries(await places())) {
      const { compared, differences } = compareAll(cases, place)
      const open = differences.filter(difference => {
        const explanation = explanationOf(difference)
        used.add(explanation)
        return explanation === undefined
      })
      unexplained += open.length
      console.log(`${name}: ${compared} cases, ${differences.length} differences, ${open.length} unexplained`)
      for (const { op, tag, text } of open) console.log(`  ${op} (${tag}): ${text}`)
    }
    const unused = explanations.filter(explanation => !used.has(explanation))
    for (const { ops, reason } of unused) console.log(`explained but not found: ${ops.join(', ')}: ${reason}`)
    if (unexplained + unused.length > 0) process.exitCode = 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
