/**
 * The shader of elementwise expressions. A job computes the terms below one value, element by element, and writes some of
 * them; a dispatch has one job or several, whose workgroups follow one another. Numbers travel in the uniform block in
 * the order of the terms, so that one shader serves all expressions of a structure.
 */

import type { Expression, Value } from '../value.ts'
import { assemble, float } from './shader.ts'
import { threads } from './tree.ts'

/** A term of a job. */
export interface Node {
  readonly value: Value
  readonly expression: Expression
  /** Place of each operand: a number of a node, `leafAt` of a leaf, or `constantPlace`. */
  readonly from: readonly number[]
}

/** One expression and what it reads. */
export interface Job {
  readonly root: Value
  /** Operands before the terms that read them. Empty for a constant. */
  readonly nodes: readonly Node[]
  readonly leaves: readonly Value[]
  /** Words of the uniform block, beside the size and the end of its workgroups. */
  readonly words: number
  /** Values that are written: the root first. */
  readonly outputs: Value[]
  /** Leaves whose buffers take the first outputs. */
  readonly reused: Value[]
}

export const constantPlace = -1

/** Place of leaf number i. */
export function leafAt(i: number): number {
  return -2 - i
}

/** Jobs with the same key have the same code. */
export function keyOfJob({ root, nodes, leaves, outputs, reused }: Job): string {
  let key = ''
  for (const { value, expression, from } of nodes) {
    key += value.size === root.size ? expression.term.name : `1 ${expression.term.name}`
    for (let i = 0; i < from.length; i++) {
      const access = expression.accesses[i]
      key += from[i] + (access === 'each' ? ',' : access === 'one' ? 'o' : 's')
    }
  }
  key += '>'
  for (const output of outputs) key += `${placeAmong(nodes, output)},`
  for (const leaf of reused) key += `=${leaves.indexOf(leaf)}`
  return key
}

function placeAmong(nodes: readonly Node[], value: Value): number {
  return nodes.findIndex(node => node.value === value)
}

/** WGSL of jobs. */
export function elementwiseCode(jobs: readonly Job[]): string {
  const functions = new Map<string, string>()
  for (const { nodes } of jobs)
    for (const { expression } of nodes) for (const [name, code] of expression.term.functions) functions.set(name, code)
  const params: Record<string, number | ReturnType<typeof float>> = {}
  const reads: Record<string, 'f32'> = {}
  const writes: Record<string, 'f32'> = {}
  const blocks = jobs.map((job, j) => jobCode(job, j, params, reads, writes))
  return assemble({
    params,
    reads,
    writes,
    threads,
    declarations: () => [...functions.values()].join('\n'),
    body: () => `  ${blocks.join(' else ')}`,
  })
}

/** WGSL of one job, with the fields that it adds to the uniform block and the buffers that it binds. */
function jobCode(
  { root, nodes, leaves, outputs, reused }: Job,
  j: number,
  params: Record<string, number | ReturnType<typeof float>>,
  reads: Record<string, 'f32'>,
  writes: Record<string, 'f32'>,
): string {
  params[`n${j}`] = 0
  params[`end${j}`] = 0
  const leafName = (i: number) => {
    const at = reused.indexOf(leaves[i])
    return at < 0 ? `x${j}_${i}` : `y${j}_${at}`
  }
  leaves.forEach((leaf, i) => {
    if (!reused.includes(leaf)) reads[leafName(i)] = 'f32'
  })
  outputs.forEach((_, k) => {
    writes[`y${j}_${k}`] = 'f32'
  })
  let fields = 0
  const field = (value: number | ReturnType<typeof float>) => {
    const name = `p${j}_${fields++}`
    params[name] = value
    return `params.${name}`
  }
  const lines = nodes.map(({ value, expression, from }, k) => {
    const { term, accesses, numbers } = expression
    const operands = from.map((place, i) => {
      if (place === constantPlace) return field(float(0))
      if (place >= 0) return `v${place}`
      const name = leafName(leafAt(place)) // leafAt is its own inverse
      const access = accesses[i]
      if (typeof access === 'object') {
        const [step, unit, inner] = [field(0), field(0), field(0)]
        return `${name}[i / ${step} * ${inner} + i / ${unit} % ${inner}]`
      }
      return access === 'each' && value.size === root.size ? `${name}[i]` : `${name}[0]`
    })
    return `let v${k} = ${term.call([...operands, ...numbers.map(() => field(float(0)))])};`
  })
  const results = nodes.length === 0 ? [field(float(0))] : outputs.map(output => `v${placeAmong(nodes, output)}`)
  const stores = results.map((result, k) => `y${j}_${k}[i] = ${result};`)
  const before = j === 0 ? '' : ` - params.end${j - 1}`
  return `if (group < params.end${j}) {
    let i = (group${before}) * ${threads}u + thread;
    if (i < params.n${j}) {
      ${[...lines, ...stores].join('\n      ')}
    }
  }`
}
