/**
 * Plans by kernel and by the numbers that they depend on: a tree whose levels are those numbers. Looking a plan up makes no
 * string of its shapes.
 */

import type { Shape } from '../../../shape.ts'
import type { Plan } from '../program.ts'

/** The plans of calls whose first numbers are the same, by the next number. */
export interface Branch {
  /** The plan of no further number. */
  plan: Plan | null
  readonly next: Map<number, Branch>
}

/** Most plans; beyond it all are dropped. */
const mostPlans = 4096

export class PlanTree {
  readonly #kernels = new Map<string, Branch>()
  #count = 0

  /** The plans of a kernel. */
  of(kernel: string): Branch {
    let found = this.#kernels.get(kernel)
    if (found === undefined) {
      found = { plan: null, next: new Map() }
      this.#kernels.set(kernel, found)
    }
    return found
  }

  /** The plan of a branch, made where there is none. */
  planAt(at: Branch, make: () => Plan): Plan {
    if (at.plan !== null) return at.plan
    if (this.#count >= mostPlans) {
      this.#kernels.clear()
      this.#count = 0
    }
    this.#count++
    at.plan = make()
    return at.plan
  }
}

/** The plans of calls whose next number is n. */
export function next(at: Branch, n: number): Branch {
  let found = at.next.get(n)
  if (found === undefined) {
    found = { plan: null, next: new Map() }
    at.next.set(n, found)
  }
  return found
}

/** The plans of calls whose next numbers are those of a shape, of any rank. */
export function shapeAt(at: Branch, shape: Shape): Branch {
  let found = next(at, shape.length)
  for (let i = 0; i < shape.length; i++) found = next(found, shape[i])
  return found
}
