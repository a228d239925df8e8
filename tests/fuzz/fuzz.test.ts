/** A few hundred changed files for every reader; `npm run fuzz` reads them for minutes. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { openCases } from './cases.ts'
import { seeded, targets } from './targets.ts'

/** Of the seeds, what is refused as it is: formats and contents that are not read. */
const refused = /^((complex|pickle|runs-code|script|types-convert|unusual)\.pt|make(-wild)?\.py|wild\.json)$/

for (const target of targets) {
  test(`${target.name}: right files are read`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'demask-fuzz-'))
    try {
      const files = [...(await seeded(target, folder)).keys()].filter(name => !refused.test(name))
      for (const file of files) await target.read(folder, join(folder, file))
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test(`${target.name}: 150 changed files are read, or refused with one line`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'demask-fuzz-'))
    try {
      const run = await openCases(target, 1, folder)
      for (let number = 0; number < 150; number++) assert.is(await run(number), null)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}

test.run()
