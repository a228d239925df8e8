/** The evidence: experiments, records, and pages that agree with the records. Needs Node. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { commonFlags, experiments } from '../../bench/evidence/experiments.ts'
import { evidenceFiles, pagesFolder } from '../../bench/evidence/pages.ts'
import { commandOf } from '../../bench/evidence/pieces.ts'
import { recordsOf } from '../../bench/evidence/records.ts'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { type AnyProgram, programs } from '../../training/programs.ts'

test('every run has a name of its own, points that rise, and flags that its program takes', () => {
  for (const [name, { runs }] of Object.entries(experiments)) {
    assert.is(new Set(runs.map(run => run.name)).size, runs.length, name)
    for (const run of runs) {
      assert.equal(
        run.points,
        [...run.points].sort((a, b) => a - b),
      )
      const from = run.from === undefined ? undefined : 'runs/other'
      if (run.from !== undefined)
        assert.ok(
          runs.some(other => other.name === run.from),
          `${name} ${run.name}`,
        )
      const [, family, ...words] = commandOf(run, from)
      const program: AnyProgram = programs[family as keyof typeof programs]
      const { given } = readTrainingCommand(program, `demask train ${family}`, words)
      assert.is((given as { seed?: number }).seed, run.seed)
    }
  }
})

test('records are of runs of their experiment, with its flags, and at its points', () => {
  for (const [name, { runs }] of Object.entries(experiments))
    for (const { head, points } of recordsOf(name)) {
      const run = runs.find(run => run.name === head.name)
      assert.ok(run !== undefined, `${name} ${head.name}`)
      assert.equal(head.command, commandOf(run, run.from))
      assert.ok(commonFlags.every(flag => head.command.includes(flag)))
      for (const { step } of points) assert.ok(run.points.includes(step), `${head.name} ${step}`)
      assert.match(head.commit, /^[0-9a-f]{40}$/)
    }
})

test('pages and figures are those of the records', () => {
  for (const [path, content] of evidenceFiles())
    assert.is(
      readFileSync(join(pagesFolder, path), 'utf8'),
      content,
      `npx tsx bench/evidence/pages.ts writes ${path} anew`,
    )
})

test.run()
