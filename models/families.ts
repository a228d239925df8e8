/** The families of models, one record each. To add one, write its record beside its model and list it here. */

import { describe } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import { dit } from './dit-family.ts'
import type { Family } from './family.ts'
import { maskDiT } from './maskdit-family.ts'
import { maskDM } from './maskdm-family.ts'
import { mdt, mdtV2 } from './mdt-family.ts'

/** All families, their types erased. */
export const families: readonly Family[] = [dit, mdt, mdtV2, maskDiT, maskDM]

/** The family of that name. Throws RangeError if there is none. */
export function familyOf(name: string): Family {
  const family = families.find(each => each.name === name)
  if (family !== undefined) return family
  throw atCaller(
    new RangeError(`familyOf: expected one of ${families.map(each => each.name).join(', ')}, got ${describe(name)}`),
  )
}
