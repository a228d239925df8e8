/**
 * What the function of a checkpoint took from outside when it ran the first time, unrecorded. Run again on the way back
 * it must find the same, or gradients would be those of another computation. Next: tape.ts, `checkpoint`.
 */

import type { Storage } from './backend.ts'
import { newestNode } from './graph.ts'
import { observe } from './op.ts'
import type { Tensor } from './tensor.ts'

/** What an op was given, and how it was then. */
interface Read {
  readonly op: string
  readonly storage: Storage
  readonly version: number
}

export class FirstRun {
  /** Whether anything from outside that requires a gradient was read or returned. */
  requiresGrad = false
  readonly #since = newestNode()
  readonly #reads = new Map<Tensor, Read>()

  /** The result of `fn`, which is looked on. */
  watch(fn: () => Tensor): Tensor {
    const y = observe(({ name }, inputs) => {
      for (const x of inputs) this.#see(x, name)
    }, fn)
    this.#track(y)
    return y
  }

  #see(x: Tensor, op: string): void {
    const { storage } = x
    if (!this.#reads.has(x)) this.#reads.set(x, { op, storage, version: storage.version })
    this.#track(x)
  }

  /** Nodes newer than the run are of `fn`'s own making. */
  #track({ node }: Tensor): void {
    if (node !== null && node.id <= this.#since) this.requiresGrad = true
  }

  /** Forgets what is no more, which `fn` made, and `result`, which may be written to. */
  settle(result: Storage): void {
    for (const [x, { storage }] of this.#reads) if (storage.holds === 0 || storage === result) this.#reads.delete(x)
  }

  /** Throws when something was written to since, or was given other memory. */
  checkUnchanged(): void {
    for (const [x, { op, storage, version }] of this.#reads) {
      const owner = x.node?.leaf ?? x // x may be an alias that `fn` made
      if (storage.version !== version || (!owner.disposed && owner.storage !== storage))
        throw new Error(`backward: a tensor that '${op}' read inside a 'checkpoint' was changed in place since`)
    }
  }
}
