/**
 * Evaluates a line like `sum(a * sin(b))` with the package's functions, on `cpu` in f64, and returns every value with its
 * gradient and the share of it that each reader sends back. Acorn parses; errors are the package's own. Used by Expression.vue.
 */

import { type Expression, parseExpressionAt } from 'acorn'
import * as core from '../../core/index.ts'
import { cpu, gradients, type NestedNumbers, scope, sum, type Tensor, tensor } from '../../core/index.ts'

/** Functions that an expression may call: ops on tensors alone. */
const functions: Readonly<Record<string, (...x: Tensor[]) => Tensor>> = {
  add: core.add,
  sub: core.sub,
  mul: core.mul,
  div: core.div,
  pow: core.pow,
  maximum: core.maximum,
  minimum: core.minimum,
  neg: core.neg,
  abs: core.abs,
  square: core.square,
  sqrt: core.sqrt,
  exp: core.exp,
  log: core.log,
  sin: core.sin,
  cos: core.cos,
  tanh: core.tanh,
  erf: core.erf,
  sigmoid: core.sigmoid,
  relu: core.relu,
  silu: core.silu,
  gelu: core.gelu,
  softmax: x => core.softmax(x),
  matmul: (a, b) => core.matmul(a, b),
  sum: x => core.sum(x),
  mean: x => core.mean(x),
}

export const functionNames = Object.keys(functions)

const operators: Readonly<Record<string, string>> = { '+': 'add', '-': 'sub', '*': 'mul', '/': 'div', '**': 'pow' }

/** A value of the graph. */
export interface GraphNode {
  readonly id: number
  /** The op, or the name or number in the expression. */
  readonly name: string
  /** Ids of its operands, older than its own. */
  readonly inputs: readonly number[]
  readonly shape: readonly number[]
  readonly values: readonly number[]
  /** Of the sum of the result by this value. */
  readonly gradient: readonly number[]
  /** Gradient that `backward` sends from here to each operand. */
  readonly sent: readonly (readonly number[])[]
}

/** The gradients after some steps of `backward`. */
export interface BackwardStep {
  /** Id of the node that has just sent its gradient on; null before the first. */
  readonly node: number | null
  /** Gradient that each node has received so far, or null. */
  readonly received: readonly (readonly number[] | null)[]
  /** Ids of the nodes whose gradient is complete. */
  readonly complete: ReadonlySet<number>
}

/** All steps of `backward`: the result starts with ones, then each node sends on what it has received, newest first. */
export function backwardSteps(nodes: readonly GraphNode[]): BackwardStep[] {
  const received: (readonly number[] | null)[] = nodes.map(() => null)
  const last = nodes.length - 1
  received[last] = nodes[last].values.map(() => 1)
  const waiting = nodes.map(({ id }) => nodes.filter(({ inputs }) => inputs.includes(id)).length)
  const snapshot = (node: number | null): BackwardStep => ({
    node,
    received: [...received],
    complete: new Set(nodes.filter(({ id }) => waiting[id] === 0).map(({ id }) => id)),
  })
  const steps = [snapshot(null)]
  for (const { id, inputs, sent } of [...nodes].reverse()) {
    if (inputs.length === 0) continue
    for (const [i, input] of inputs.entries()) {
      const before = received[input]
      received[input] = before === null ? sent[i] : before.map((g, k) => g + sent[i][k])
    }
    for (const input of new Set(inputs)) waiting[input]--
    steps.push(snapshot(id))
  }
  return steps
}

/** Names of the variables in an expression, in the order of their first appearance. Throws if it does not parse. */
export function variablesOf(text: string): string[] {
  const names = new Set<string>()
  const visit = (node: object, key = ''): void => {
    if ('type' in node && node.type === 'Identifier' && 'name' in node && key !== 'callee') names.add(String(node.name))
    for (const [key, value] of Object.entries(node))
      for (const child of Array.isArray(value) ? value : [value])
        if (typeof child === 'object' && child !== null) visit(child, key)
  }
  visit(parse(text))
  return [...names]
}

/**
 * All values of an expression, operands before results, and their gradients. Throws an Error with one line that a person
 * can act on: a syntax error, an unknown name, or what the op itself says of its shapes.
 */
export function evaluate(text: string, variables: Readonly<Record<string, NestedNumbers>>): GraphNode[] {
  const tree = parse(text)
  return scope(() => {
    const found: { name: string; inputs: number[]; value: Tensor; f: ((...x: Tensor[]) => Tensor) | null }[] = []
    const leaves = new Map<string, number>()
    const keep = (name: string, inputs: number[], value: Tensor, f: (typeof found)[number]['f'] = null) =>
      found.push({ name, inputs, value, f }) - 1
    const leaf = (name: string, values: NestedNumbers) => {
      let id = leaves.get(name)
      if (id === undefined) {
        id = keep(name, [], tensor(values, { dtype: 'f64', backend: cpu }).requireGrad())
        leaves.set(name, id)
      }
      return id
    }
    const call = (name: string, operands: readonly Expression[]) => {
      if (!Object.hasOwn(functions, name)) throw new Error(`${name}: expected one of ${functionNames.join(', ')}`)
      const f = functions[name]
      if (operands.length !== Math.max(1, f.length))
        throw new Error(`${name}: expected ${Math.max(1, f.length)} operands, got ${operands.length}`)
      const inputs = operands.map(visit)
      return keep(name, inputs, f(...inputs.map(i => found[i].value)), f)
    }
    const visit = (node: Expression): number => {
      switch (node.type) {
        case 'Identifier':
          if (!Object.hasOwn(variables, node.name))
            throw new Error(`${node.name}: expected one of the variables ${Object.keys(variables).join(', ')}`)
          return leaf(node.name, variables[node.name])
        case 'Literal':
          if (typeof node.value !== 'number') throw new Error(`expected a number, got ${node.raw}`)
          return leaf(String(node.value), node.value)
        case 'ParenthesizedExpression':
          return visit(node.expression)
        case 'UnaryExpression':
          if (node.operator !== '-') throw new Error(`${node.operator}: expected −, the only operator with one operand`)
          return call('neg', [node.argument])
        case 'BinaryExpression': {
          const name = operators[node.operator]
          if (name === undefined || node.left.type === 'PrivateIdentifier')
            throw new Error(`${node.operator}: expected one of ${Object.keys(operators).join(' ')}`)
          return call(name, [node.left, node.right])
        }
        case 'CallExpression': {
          if (node.callee.type !== 'Identifier') throw new Error('expected a function by its name')
          return call(node.callee.name, node.arguments as Expression[])
        }
        default:
          throw new Error(
            `expected numbers, variables, operators and functions, got '${text.slice(node.start, node.end)}'`,
          )
      }
    }
    const result = found[visit(tree)].value
    const slopes = gradients(
      sum(result),
      found.map(({ value }) => value),
    )
    /** One op alone, from copies of its operands: the same operand twice receives two gradients. */
    const sentBy = ({ inputs, f }: (typeof found)[number], id: number): number[][] => {
      if (f === null) return []
      const operands = inputs.map(i => {
        const { value } = found[i]
        return tensor(value.dataSync(), { shape: value.shape, dtype: 'f64', backend: cpu }).requireGrad()
      })
      return gradients(sum(core.mul(f(...operands), slopes[id])), operands).map(g => Array.from(g.dataSync()))
    }
    return found
      .map((node, id) => ({ ...node, sent: sentBy(node, id) }))
      .map(({ name, inputs, value, sent }, id) => ({
        id,
        name,
        inputs,
        shape: value.shape,
        values: Array.from(value.dataSync()),
        gradient: Array.from(slopes[id].dataSync()),
        sent,
      }))
  })
}

function parse(text: string): Expression {
  let tree: Expression
  try {
    tree = parseExpressionAt(text, 0, { ecmaVersion: 2023, preserveParens: true })
  } catch (error) {
    throw new Error(`the expression does not parse: ${(error as Error).message}`)
  }
  const rest = text.slice(tree.end).trim()
  if (rest !== '') throw new Error(`the expression does not parse: '${rest}' is left over`)
  return tree
}
