/**
 * Mutants: the source with one small change, which a test should notice. Here is what is changed (operators, numbers, booleans,
 * bounds, statements, the order of operands) and what is not: strings, comments, types, messages of errors, and the samples
 * of op records, which only tests run. Used by run.ts.
 */

import { below, child, lineAt, list, type Node, parse } from '../repo/syntax.ts'

export interface Mutant {
  readonly file: string
  /** Counted from 1. */
  readonly line: number
  /** The line as it stands, without indentation. */
  readonly text: string
  /** UTF-16 offsets of what `after` stands for. */
  readonly start: number
  readonly end: number
  readonly before: string
  readonly after: string
}

const binary: Readonly<Record<string, readonly string[]>> = {
  '+': ['-'],
  '-': ['+'],
  '*': ['/'],
  '/': ['*'],
  '%': ['*'],
  '**': ['*'],
  '<': ['<=', '>='],
  '<=': ['<', '>'],
  '>': ['>=', '<='],
  '>=': ['>', '<'],
  '===': ['!=='],
  '!==': ['==='],
  '<<': ['>>'],
  '>>': ['<<'],
  '>>>': ['<<'],
  '&': ['|'],
  '|': ['&'],
}
const logical: Readonly<Record<string, string>> = { '&&': '||', '||': '&&', '??': '&&' }
const assignment: Readonly<Record<string, string>> = { '+=': '-=', '-=': '+=', '*=': '/=', '/=': '*=' }
const opposite: Readonly<Record<string, string>> = { min: 'max', max: 'min', floor: 'ceil', ceil: 'floor' }
/** Ops whose operands have an order. */
const ordered = /^(sub|div|pow|matmul|less|lessEqual|greater|greaterEqual)$/

/** All mutants of a file, in the order of the text. */
export function mutantsOf(file: string, source: string): Mutant[] {
  const found: Mutant[] = []
  const lines = source.split('\n')
  const change = (start: number, end: number, after: string) => {
    const line = lineAt(source, start)
    found.push({ file, line, text: lines[line - 1].trim(), start, end, before: source.slice(start, end), after })
  }
  const program = parse(file, source)
  const samples = samplesIn(program)
  const rest = samples.reduceRight((text, { start, end }) => text.slice(0, start) + text.slice(end), source)
  // Declarations used by samples alone are left out as well.
  const declared = list(program, 'body').flatMap(each =>
    each.type === 'VariableDeclaration'
      ? list(each, 'declarations').map(of => ({ each, name: child(of, 'id').name }))
      : [],
  )
  const forSamples = declared.filter(
    ({ name }) => samples.length > 0 && rest.match(new RegExp(`\\b${name}\\b`, 'g'))?.length === 1,
  )
  for (const { node } of below(program)) if (!forSamples.some(({ each }) => each === node)) visit(node, source, change)
  return found.sort((a, b) => a.start - b.start || a.end - b.end)
}

/** The `samples` of op records. */
function samplesIn(node: Node): Node[] {
  return isSamples(node) ? [node] : below(node).flatMap(each => samplesIn(each.node))
}

function isSamples(node: Node): boolean {
  return node.type === 'Property' && child(node, 'key').name === 'samples'
}

function visit(node: Node, source: string, change: (start: number, end: number, after: string) => void): void {
  if (isLeftOut(node)) return
  const text = ({ start, end }: Node) => source.slice(start, end)
  /** The operator between two operands. */
  const operator = (left: Node, right: Node, after: string) => {
    const start = source.indexOf(node.operator as string, left.end)
    if (start < right.start) change(start, start + (node.operator as string).length, after)
  }
  switch (node.type) {
    case 'BinaryExpression':
      if (![child(node, 'left'), child(node, 'right')].some(isText))
        for (const after of binary[node.operator as string] ?? [])
          operator(child(node, 'left'), child(node, 'right'), after)
      break
    case 'LogicalExpression':
      operator(child(node, 'left'), child(node, 'right'), logical[node.operator as string])
      break
    case 'AssignmentExpression':
      if (assignment[node.operator as string] !== undefined && !isText(child(node, 'right')))
        operator(child(node, 'left'), child(node, 'right'), assignment[node.operator as string])
      break
    case 'UnaryExpression':
      if (node.operator === '!' || node.operator === '-') change(node.start, child(node, 'argument').start, '')
      break
    case 'Literal':
      if (typeof node.value === 'boolean') change(node.start, node.end, String(!node.value))
      if (typeof node.value === 'number')
        for (const step of [1, -1]) change(node.start, node.end, `(${node.value + step})`)
      break
    case 'MemberExpression':
      if (text(child(node, 'object')) === 'Math' && opposite[text(child(node, 'property'))] !== undefined)
        change(child(node, 'property').start, child(node, 'property').end, opposite[text(child(node, 'property'))])
      break
    case 'ConditionalExpression':
      change(child(node, 'test').start, child(node, 'test').end, `!(${text(child(node, 'test'))})`)
      break
    case 'IfStatement':
      if (node.alternate === null) change(node.start, node.end, ';')
      else change(child(node, 'test').start, child(node, 'test').end, `!(${text(child(node, 'test'))})`)
      break
    case 'ExpressionStatement':
      if (typeof node.directive !== 'string' && text(child(node, 'expression')).slice(0, 6) !== 'super(')
        change(node.start, node.end, ';')
      break
    case 'CallExpression': {
      const [a, b, ...rest] = list(node, 'arguments')
      if (b !== undefined && rest.length === 0 && ordered.test(text(child(node, 'callee'))) && text(a) !== text(b))
        change(a.start, b.end, `${text(b)}, ${text(a)}`)
      break
    }
  }
  // A changed counter of a for statement would only loop for ever.
  for (const { field, node: each } of below(node))
    if (!(node.type === 'ForStatement' && field === 'update')) visit(each, source, change)
}

/** Types, imports, what is thrown, and samples. */
function isLeftOut(node: Node): boolean {
  const wrappers = ['TSAsExpression', 'TSNonNullExpression', 'TSSatisfiesExpression', 'TSParameterProperty']
  if (node.type.startsWith('TS') && !wrappers.includes(node.type)) return true
  if (node.type === 'ImportDeclaration' || node.type === 'ThrowStatement') return true
  return isSamples(node)
}

function isText(node: Node): boolean {
  return node.type === 'TemplateLiteral' || (node.type === 'Literal' && typeof node.value === 'string')
}

/** The source with the change. */
export function mutated(source: string, { start, end, after }: Mutant): string {
  return source.slice(0, start) + after + source.slice(end)
}

/** The change on one line, as in reports and in equivalent.json. */
export function changeOf({ before, after }: Mutant): string {
  const short = (text: string) => text.replace(/\s+/g, ' ').trim()
  return `${short(before)} → ${short(after) || '(nothing)'}`
}
