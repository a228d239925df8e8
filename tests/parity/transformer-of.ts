/**
 * The model of kinds that take a DiT as well as an MDT of either version: the parameters tell which one it is.
 */

import { DiT } from '../../models/dit.ts'
import type { MDT, MDTv2 } from '../../models/mdt.ts'
import type { Fixture, Run } from './fixture.ts'
import { mdtOf } from './mdt.ts'
import { ditOptions, loaded, place } from './transformer.ts'

export function transformerOf(fixture: Fixture, run: Run): DiT | MDT | MDTv2 {
  const parts = new Set(fixture.names('param.').map(name => name.split('.')[0]))
  if (parts.has('de_blocks')) return mdtOf(fixture, run, 2)
  if (parts.has('sideblocks')) return mdtOf(fixture, run, 1)
  if (parts.has('blocks')) return loaded(new DiT(ditOptions(fixture.config), place(run)), fixture)
  throw new Error('expected the parameters of a DiT or an MDT, got others')
}
