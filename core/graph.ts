/**
 * The graph that a forward computation leaves behind: one node per recorded op, and one per leaf that wants a gradient.
 * Nodes keep exactly the tensors that their gradient rule asked for, as long as a live tensor leads to them. Walking the
 * graph backwards is tape.ts.
 */

import { aFunction, aString, check, orNull } from './arguments.ts'
import type { AnyOp } from './op.ts'
import { unscoped } from './scope.ts'
import { checkSynchronous } from './synchronous.ts'
import type { SegmentRequest } from './tape.ts'
import type { Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

let enabled = true
let created = 0

/** True if ops are being recorded. */
export function gradEnabled(): boolean {
  return enabled
}

function withGrad<T>(op: string, value: boolean, fn: () => T): T {
  check(op, 'fn', fn, aFunction)
  const before = enabled
  enabled = value
  try {
    return checkSynchronous(op, fn())
  } finally {
    enabled = before
  }
}

/** Runs `fn` without recording: its results have no gradient. Throws if `fn` returns a promise. */
export function noGrad<T>(fn: () => T): T {
  return withGrad('noGrad', false, fn)
}

/** Runs `fn` with recording on, also inside `noGrad`. Throws if `fn` returns a promise. */
export function enableGrad<T>(fn: () => T): T {
  return withGrad('enableGrad', true, fn)
}

/** The id of the newest node: what is recorded from now on has a larger one. */
export function newestNode(): number {
  return created
}

let current: string | null = null

/** Label of the innermost `labelled` call; null outside of one. */
export function label(): string | null {
  return current
}

const labelKind = orNull(aString)

/** Runs `fn` with a name for what it computes. Gradients are known by the name of what they are the gradient of. */
export function labelled<T>(name: string | null, fn: () => T): T {
  check('labelled', 'name', name, labelKind)
  check('labelled', 'fn', fn, aFunction)
  const before = current
  current = name
  try {
    return fn()
  } finally {
    current = before
  }
}

/** A part of the graph that is built during backward, by running a function again: what `checkpoint` records. */
export interface Segment {
  /** The gradient of each input of `node`, given that of its result; null where none is wanted. */
  inputGradients(node: Node, g: Tensor, request: SegmentRequest): (Tensor | null)[]
}

/** Where a value came from: an op, a segment, or nowhere for a leaf, whose gradient lands in `leaf.grad`. */
export class Node {
  /** Rises with creation: an input's node is always older than its consumer's. */
  readonly id = ++created
  readonly op: AnyOp | null
  readonly attrs: unknown
  readonly leaf: Tensor | null
  readonly segment: Segment | null
  readonly label = current
  /** Per input: the node that made it, or null where no gradient is wanted; and which of that node's outputs it is. */
  readonly inputs: readonly (Node | null)[]
  readonly inputIndex: readonly number[]
  readonly inputShapes: readonly (readonly number[])[]
  #saved: readonly Tensor[] | null = []
  #versions: readonly number[] = []
  /** Live handles on its results, and nodes that were made of them and are themselves in use. */
  #uses = 0

  constructor(
    op: AnyOp | null,
    attrs: unknown,
    inputs: readonly Tensor[],
    leaf: Tensor | null = null,
    segment: Segment | null = null,
  ) {
    this.op = op
    this.attrs = attrs
    this.leaf = leaf
    this.segment = segment
    this.inputs = inputs.map(x => x.node)
    this.inputIndex = inputs.map(x => x.outputIndex)
    this.inputShapes = inputs.map(x => x.shape)
    for (const input of this.inputs) input?.hold()
  }

  /** The node of a leaf. */
  static ofLeaf(leaf: Tensor): Node {
    return new Node(null, null, [], leaf)
  }

  /** The node of the result of a segment. */
  static ofSegment(segment: Segment, inputs: readonly Tensor[]): Node {
    return new Node(null, null, inputs, null, segment)
  }

  /** The name of the op, for messages. */
  get name(): string {
    return this.op?.name ?? (this.segment === null ? 'leaf' : 'checkpoint')
  }

  /** Counts one more that leads here: a handle, or a node. */
  hold(): void {
    this.#uses++
  }

  /** Releases one `hold`. With the last one, frees the part of the graph that only this node led to. */
  drop(): void {
    if (--this.#uses > 0) return
    const unused: Node[] = [this]
    for (let node = unused.pop(); node !== undefined; node = unused.pop()) {
      node.#uses++ // what it disposes now does not come back here
      node.release()
      for (const input of node.inputs) if (input !== null && --input.#uses === 0) unused.push(input)
    }
  }

  /** Holds `tensors` until `release`, whatever becomes of their scope, and remembers which version of each was seen. */
  save(tensors: readonly Tensor[]): void {
    this.#saved = unscoped(() => tensors.map(x => x.alias()))
    this.#versions = tensors.map(x => x.storage.version)
    for (const x of tensors) if (x.node === this) this.#uses-- // a node does not keep itself
  }

  /** Tensors saved for backward. Throws if they were released, or changed in place since. */
  get saved(): readonly Tensor[] {
    const saved = this.#saved
    if (saved === null)
      throw atCaller(
        new Error(
          `backward: the graph of '${this.name}' was freed by an earlier backward or with its last result; run the forward again`,
        ),
      )
    for (let i = 0; i < saved.length; i++) {
      if (saved[i].storage.version !== this.#versions[i])
        throw atCaller(
          new Error(`backward: a tensor that '${this.name}' saved for its gradient was changed in place since`),
        )
    }
    return saved
  }

  /** Lets go of what was saved. */
  release(): void {
    const saved = this.#saved
    this.#saved = null
    for (const x of saved ?? []) {
      if (x.node === this) this.#uses++ // `save` did not count it, but dispose will
      x.dispose()
    }
  }
}
