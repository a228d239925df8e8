/**
 * `checkpoint` trades memory for a second forward: of a function's result only the inputs are kept, and backward runs the
 * function again to build the graph in between. What the function read from outside must be unchanged by then, or the
 * gradients would be those of another computation: `CheckpointReads` records it.
 */

import { aFunction, check, checkTensor, optional, tensors } from './arguments.ts'
import type { Storage } from './backend.ts'
import { enableGrad, gradEnabled, Node, newestNode, noGrad } from './graph.ts'
import { observe } from './op.ts'
import { add } from './ops/elementwise.ts'
import { aStream, Rng } from './random.ts'
import { scope } from './scope.ts'
import { type SegmentRequest, walk } from './tape.ts'
import { full, Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

type Segment = (inputs: readonly Tensor[], rng: Rng | undefined) => Tensor

/**
 * Returns fn(inputs, rng), of any shapes, and saves only the inputs: `backward` runs `fn` again for the intermediates,
 * with `rng` in the state of the first run. Gradients reach the inputs and leaves that `fn` captured; any other
 * tensor that requires a gradient must be passed as an input (throws otherwise). Nothing that `fn` captured may change
 * before `backward`, which throws then. No createGraph.
 */
export function checkpoint(fn: Segment, inputs: readonly Tensor[], rng?: Rng): Tensor {
  check('checkpoint', 'fn', fn, aFunction)
  check('checkpoint', 'inputs', inputs, tensors)
  check('checkpoint', 'rng', rng, optional(aStream))
  for (const x of inputs) checkTensor('checkpoint', 'an input', x)
  // Each result is a handle of its own: `fn` may return one that is not ours to dispose of.
  if (!gradEnabled()) return scope(() => fn(inputs, rng).detach())
  const state = rng?.state()
  const reads = new CheckpointReads()
  const run = () => {
    const detached = inputs.map(x => x.detach())
    return reads.record(() => fn(detached, rng)).detach()
  }
  const y = noGrad(() => scope(run))
  if (y.dtype === 'i32' || !(reads.requiresGrad || inputs.some(x => x.requiresGrad))) return y
  reads.settle(y.storage)
  const again = (xs: readonly Tensor[]) => {
    reads.checkUnchanged()
    return fn(xs, state && new Rng(state))
  }
  const node = Node.ofSegment({ inputGradients: (node, g, request) => rerun(again, node, g, request) }, inputs)
  node.save(inputs)
  const result = new Tensor(y.storage, y.shape, node)
  y.dispose()
  return result
}

/** Runs the function of a checkpoint again, recorded, and walks its graph: the gradients of its inputs. */
function rerun(
  again: (inputs: readonly Tensor[]) => Tensor,
  node: Node,
  g: Tensor,
  { plan, wanted, captured }: SegmentRequest,
): (Tensor | null)[] {
  if (plan.createGraph)
    throw atCaller(new Error('checkpoint: createGraph through a checkpoint is not supported; call fn directly'))
  const leaves = node.saved.map((x, i) => (wanted[i] ? x.detach().requireGrad() : x.detach()))
  const since = newestNode()
  const y = enableGrad(() => again(leaves))
  const own = new Map(leaves.map((x, i) => [x.node, i]))
  const found = wanted.map((): Tensor | null => null)
  walk([y], [g], {
    createGraph: false,
    hooksSince: since,
    isTarget: (n, i) => own.has(n) || plan.isTarget(n, i),
    leadsToTarget: n => {
      if (n.id < since && n.leaf === null)
        throw atCaller(new Error(`checkpoint: fn used a result of '${n.name}' from outside; pass it as an input`))
      return true
    },
    deliver: (n, index, gradient) => {
      const k = own.get(n)
      if (k === undefined) captured.push({ node: n, index, g: gradient })
      // A checkpoint inside this one may have captured an input, and hands on its part of the gradient.
      else found[k] = found[k] === null ? gradient : add(found[k], gradient)
    },
  })
  // An input that plays no part still gets its zeros: consumers below count on a gradient.
  return found.map((f, i) => f ?? (wanted[i] ? full(leaves[i].shape, 0, { dtype: g.dtype, backend: g.backend }) : null))
}

/** An operand that an op read, with the memory and version that it had then. */
interface Read {
  readonly op: string
  readonly storage: Storage
  readonly version: number
}

/** Operands that the function of a checkpoint read from outside in its first, unrecorded run. */
class CheckpointReads {
  /** True if a tensor from outside that requires a gradient was read or returned. */
  requiresGrad = false
  readonly #since = newestNode()
  readonly #reads = new Map<Tensor, Read>()

  /** Runs `fn`, records what its ops read, and returns its result. */
  record(fn: () => Tensor): Tensor {
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

  /** Nodes newer than the run were made by `fn`. */
  #track({ node }: Tensor): void {
    if (node !== null && node.id <= this.#since) this.requiresGrad = true
  }

  /** Drops intermediates that were freed, and `result`, which later writes may change. */
  settle(result: Storage): void {
    for (const [x, { storage }] of this.#reads) if (storage.holds === 0 || storage === result) this.#reads.delete(x)
  }

  /** Throws if a tensor was written to since, or was given other memory. */
  checkUnchanged(): void {
    for (const [x, { op, storage, version }] of this.#reads) {
      const owner = x.node?.leaf ?? x // x may be an alias that `fn` made
      if (storage.version !== version || (!owner.disposed && owner.storage !== storage))
        throw atCaller(
          new Error(`backward: a tensor that '${op}' read inside a 'checkpoint' was changed in place since`),
        )
    }
  }
}
