/**
 * Kind `mdt-v2`: see mdt.ts beside this folder.
 */

import type { Fixture, Run } from '../fixture.ts'
import type { Results } from '../kind.ts'
import { computeMdt } from '../mdt.ts'

export function compute(fixture: Fixture, run: Run): Results {
  return computeMdt(fixture, run, 2)
}
