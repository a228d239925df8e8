/**
 * Elementwise kernels that wait. A term on operands becomes an expression; when another kernel needs its elements, it and
 * the waiting terms below it are computed in one dispatch. That dispatch also writes intermediate values that are still
 * held, of which most are saved for backward. Expressions that are needed together share dispatches. A buffer that nothing else
 * reads is overwritten by the result. Expressions whose results are released are never computed.
 */

import { ceilDiv } from '../../../shape.ts'
import type { Access, Program, Term } from '../program.ts'
import type { BufferPool, PooledBuffer } from './pool.ts'
import { type Expression, Value } from './value.ts'
import { constantPlace, elementwiseCode, type Job, keyOfJob, leafAt, type Node } from './wgsl/elementwise.ts'
import { threads } from './wgsl/tree.ts'

/** Storage buffers that a shader may bind on every device. */
const mostBuffers = 8
/** Most terms of an expression, and words of the uniform block of an expression and of a dispatch. */
const mostTerms = 24
const mostWords = 24
const mostBlockWords = 60
/** Waiting results are computed once released values that they read take this many bytes, or once there are this many. */
const mostKeptBytes = 2 ** 26
const mostWaiting = 2048

function isWaiting({ expression }: Value): boolean {
  return expression !== null
}

export class Expressions {
  readonly #pool: BufferPool
  readonly #record: (program: Program, buffers: readonly PooledBuffer[]) => void
  /** Held values with an expression. */
  readonly #waiting = new Set<Value>()
  /** Jobs of the next dispatch. */
  #open: Job[] = []
  #buffers = 0
  #words = 0
  #jobs = 0
  #keptBytes = 0
  readonly #block = new Uint32Array(mostBlockWords + 4)
  readonly #floats = new Float32Array(this.#block.buffer)

  /** `record` appends a dispatch to the commands. */
  constructor(pool: BufferPool, record: (program: Program, buffers: readonly PooledBuffer[]) => void) {
    this.#pool = pool
    this.#record = record
  }

  /** A value whose elements are in a buffer. */
  inBuffer(size: number, buffer: PooledBuffer): Value {
    const value = new Value(size)
    value.buffer = buffer
    return value
  }

  /** A value whose elements are all the same number. */
  constant(size: number, number: number): Value {
    const value = new Value(size)
    value.constant = number
    return value
  }

  /** A term on operands, to be computed when it is needed. */
  express(
    term: Term,
    size: number,
    operands: readonly Value[],
    accesses: readonly Access[],
    numbers: readonly number[],
  ): Value {
    if (this.#keptBytes > mostKeptBytes || this.#waiting.size > mostWaiting) this.computeAll()
    // Only elements of the same index, or single ones, are computed along.
    for (let i = 0; i < operands.length; i++)
      if (isWaiting(operands[i]) && typeof accesses[i] === 'object') this.compute([operands[i]])
    let expression = expressionOf(term, operands, accesses, numbers)
    if (expression === null) {
      this.compute(operands.filter(isWaiting))
      expression = expressionOf(term, operands, accesses, numbers)!
    }
    const value = new Value(size)
    value.expression = expression
    for (let i = 0; i < operands.length; i++) operands[i].readers++
    this.#waiting.add(value)
    return value
  }

  /** The buffer of a value, computed if it waits. */
  bufferOf(value: Value): PooledBuffer {
    if (value.buffer === null) this.compute([value])
    return value.buffer!
  }

  /** Computes those of the values that wait, in as few dispatches as possible. */
  compute(values: readonly Value[]): void {
    for (const value of values) {
      if (value.buffer !== null || value.planned) continue
      this.#add(value)
    }
    this.#dispatch()
  }

  /** Computes all waiting values that are held. */
  computeAll(): void {
    if (this.#waiting.size > 0) this.compute([...this.#waiting])
  }

  /** Prepares the buffer of a value for a dispatch that writes it in place. */
  beforeWrite(value: Value): void {
    if (value.readers > 0) this.computeAll()
    this.bufferOf(value)
    value.constant = null
  }

  /** Gives up a value. */
  release(value: Value): void {
    if (!value.held) return
    value.held = false
    this.#waiting.delete(value)
    if (value.readers === 0) this.#end(value)
    else if (value.buffer !== null) this.#keptBytes += value.buffer.bytes
  }

  /** Frees a value that nothing needs any more. */
  #end(value: Value): void {
    if (value.buffer !== null) this.#pool.give(value.buffer)
    value.buffer = null
    this.#settle(value)
  }

  /** Drops the expression of a value that was computed, or will not be. */
  #settle(value: Value): void {
    const { expression } = value
    if (expression === null) return
    value.expression = null
    this.#waiting.delete(value)
    for (const operand of expression.operands) {
      if (--operand.readers > 0 || operand.held) continue
      if (operand.buffer !== null) this.#keptBytes -= operand.buffer.bytes
      this.#end(operand)
    }
  }

  /** Adds the computation of a value to the next dispatch. */
  #add(root: Value): void {
    let job = this.#jobOf(root)
    if (job === null) {
      this.#dispatch()
      job = this.#jobOf(root)!
    }
    if (job.leaves.length >= mostBuffers) {
      // Operands computed in the meantime have buffers of their own: those that wait are computed first.
      this.compute(root.expression!.operands)
      job = this.#jobOf(root)!
    }
    this.#chooseOutputs(job)
    const buffers = job.leaves.length + job.outputs.length - job.reused.length
    const words = job.words + 2
    if (this.#buffers + buffers > mostBuffers || this.#words + words > mostBlockWords) this.#dispatch()
    this.#open.push(job)
    this.#buffers += buffers
    this.#words += words
    for (const output of job.outputs) output.planned = true
  }

  /** The terms below a value, operands first. Null if one of them is computed by the next dispatch. */
  #jobOf(root: Value): Job | null {
    const id = ++this.#jobs
    const nodes: Node[] = []
    const leaves: Value[] = []
    let words = 0
    const visit = (value: Value): boolean => {
      if (value.job === id) return true
      if (value.planned) return false
      value.job = id
      const { expression } = value
      if (expression === null) {
        value.place = leafAt(leaves.push(value) - 1)
        return true
      }
      const { operands, accesses, numbers } = expression
      const from: number[] = []
      for (let i = 0; i < operands.length; i++) {
        const operand = operands[i]
        if (operand.constant !== null) {
          from.push(constantPlace)
          words++
          continue
        }
        if (!visit(operand)) return false
        from.push(operand.place)
        if (typeof accesses[i] === 'object') words += 3
      }
      words += numbers.length
      value.place = nodes.push({ value, expression, from }) - 1
      return true
    }
    if (root.constant !== null) words = 1
    else if (!visit(root)) return null
    return { root, nodes, leaves, words, outputs: [], reused: [] }
  }

  /** Chooses the nodes of a job that are written, and buffers of leaves that they may overwrite. */
  #chooseOutputs(job: Job): void {
    const { root, nodes, leaves, outputs, reused } = job
    outputs.push(root)
    for (let i = nodes.length - 2; i >= 0 && leaves.length + outputs.length < mostBuffers; i--) {
      const { value } = nodes[i]
      if (value.held && value.size === root.size) outputs.push(value)
    }
    // From here on `seen` counts readers that are gone after the job.
    for (const { value } of nodes) value.seen = 0
    for (const leaf of leaves) leaf.seen = 0
    const apart = new Set<Value>()
    for (let i = nodes.length - 1; i >= 0; i--) {
      const { value, expression } = nodes[i]
      const ends = outputs.includes(value) || (!value.held && value.seen === value.readers)
      const { operands, accesses } = expression
      for (let k = 0; k < operands.length; k++) {
        if (ends) operands[k].seen++
        if (accesses[k] !== 'each' || value.size !== root.size) apart.add(operands[k])
      }
    }
    for (const leaf of leaves)
      if (reused.length < outputs.length && !leaf.held && leaf.seen === leaf.readers && !apart.has(leaf))
        if (leaf.size === root.size) reused.push(leaf)
  }

  /** Records the dispatch of the open jobs. */
  #dispatch(): void {
    const jobs = this.#open
    if (jobs.length === 0) return
    this.#open = []
    this.#buffers = this.#words = 0
    const reads: PooledBuffer[] = []
    const writes: PooledBuffer[] = []
    let [at, workgroups, key] = [1, 0, 'elementwise']
    const [block, floats] = [this.#block, this.#floats]
    for (const job of jobs) {
      const { root, nodes, leaves, outputs, reused } = job
      for (const leaf of leaves) if (!reused.includes(leaf)) reads.push(leaf.buffer!)
      outputs.forEach((output, i) => {
        output.buffer = i < reused.length ? reused[i].buffer! : this.#pool.take(4 * root.size)
        writes.push(output.buffer)
      })
      workgroups += ceilDiv(root.size, threads)
      block[at++] = root.size
      block[at++] = workgroups
      if (nodes.length === 0) floats[at++] = root.constant!
      for (const { expression, from } of nodes) {
        const { operands, accesses, numbers } = expression
        for (let k = 0; k < operands.length; k++) {
          const access = accesses[k]
          if (from[k] === constantPlace) floats[at++] = operands[k].constant!
          else if (typeof access === 'object') {
            block[at++] = access.step
            block[at++] = access.unit
            block[at++] = access.inner
          }
        }
        for (const number of numbers) floats[at++] = number
      }
      key += ` ${keyOfJob(job)}`
    }
    block[0] = workgroups
    this.#record(
      {
        key,
        code: () => elementwiseCode(jobs),
        params: block.subarray(0, at),
        scalars: 0,
        reads: reads.length,
        writes: writes.length,
        workgroups,
      },
      [...reads, ...writes],
    )
    for (const { outputs, reused } of jobs) {
      for (const leaf of reused) {
        this.#keptBytes -= leaf.buffer!.bytes
        leaf.buffer = null
      }
      for (const output of outputs) {
        output.planned = false
        if (!output.held) this.#keptBytes += output.buffer!.bytes
        this.#settle(output)
      }
    }
  }
}

/** Null if it is too large for one dispatch. */
function expressionOf(
  term: Term,
  operands: readonly Value[],
  accesses: readonly Access[],
  numbers: readonly number[],
): Expression | null {
  const leaves: Value[] = []
  let terms = 1
  let words = numbers.length
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i]
    const { expression } = operand
    if (operand.constant !== null) words++
    else if (expression === null) {
      if (!leaves.includes(operand)) leaves.push(operand)
      if (typeof accesses[i] === 'object') words += 3
    } else {
      terms += expression.terms
      words += expression.words
      for (const leaf of expression.leaves) if (!leaves.includes(leaf)) leaves.push(leaf)
    }
  }
  if (terms > mostTerms || words > mostWords || leaves.length >= mostBuffers) return null
  return { term, operands, accesses, numbers, leaves, terms, words }
}
