/**
 * The expression page: a line like `sum(a * sin(b))` becomes a computation of the package, and every value in it is shown with
 * its gradient. Acorn parses; ops are the package's functions, by name; errors are its own. Runs in the page, on `cpu`.
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
}

/**
 * All values of an expression, operands before results, and their gradients. Throws an Error with one line that a person
 * can act on: a syntax error, an unknown name, or what the op itself says of its shapes.
 */
export function evaluate(text: string, variables: Readonly<Record<string, NestedNumbers>>): GraphNode[] {
  const tree = parse(text)
  return scope(() => {
    const found: { name: string; inputs: number[]; value: Tensor }[] = []
    const leaves = new Map<string, number>()
    const keep = (name: string, inputs: number[], value: Tensor) => found.push({ name, inputs, value }) - 1
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
      return keep(name, inputs, f(...inputs.map(i => found[i].value)))
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
    return found.map(({ name, inputs, value }, id) => ({
      id,
      name,
      inputs,
      shape: value.shape,
      values: Array.from(value.dataSync()),
      gradient: Array.from(slopes[id].dataSync()),
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
