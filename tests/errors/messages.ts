/**
 * Every message of an error in the source: found in its syntax tree, as a template with holes and as a pattern that
 * matches its messages. A function that only puts a place before its argument is replaced by its callers. Needs Node.
 * Used by page.ts.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../repo/markdown.ts'
import { rooms } from '../repo/rooms.ts'
import { below, child, lineAt, list, type Node, parse } from '../repo/syntax.ts'

export interface Message {
  readonly file: string
  /** The function, method or class that it is thrown in. */
  readonly within: string
  /** The class of the error. */
  readonly kind: string
  /** The message, with `{…}` for what is filled in. */
  readonly template: string
  /** Matches the message with its holes filled in. */
  readonly pattern: RegExp
  /** Lines of the source that it stands on. */
  readonly lines: readonly [number, number]
}

/** Text, and what is filled in: the source of an expression. */
type Part = string | { readonly hole: string }

/** All messages, by folder and file, in the order of the source. */
export function messages(): Message[] {
  return rooms
    .flatMap(folder =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .sort()
        .map(name => `${folder}/${name}`),
    )
    .filter(file => file.endsWith('.ts') && !file.endsWith('.as.ts') && !file.includes('/generated/'))
    .flatMap(file => messagesOf(file, readFileSync(join(root, file), 'utf8')))
}

/** Messages of one file. */
export function messagesOf(file: string, source: string): Message[] {
  const made: Thrown[] = []
  const calls: Call[] = []
  visit(parse(file, source), [], source, made, calls)
  return made
    .flatMap(thrown => expanded(thrown, calls))
    .sort((a, b) => a.node.start - b.node.start)
    .map(({ within, kind, parts, node }) => ({ file, within, kind, ...written(parts), lines: linesOf(node, source) }))
}

/** The thrown message, or, if a function takes it as an argument (`fail(problem)`), the message of each caller. */
function expanded(thrown: Thrown, calls: readonly Call[]): Thrown[] {
  const { parts, parameters } = thrown
  const told = parameters.findIndex(name => {
    const at = parts.findIndex(part => isHole(part, name))
    const before = parts[at - 1]
    return at === parts.length - 1 || (at > 0 && typeof before === 'string' && before.endsWith('expected '))
  })
  const callers = told < 0 ? [] : calls.filter(({ name }) => name === thrown.name)
  if (!callers.some(({ args }) => args[told]?.some(part => typeof part === 'string'))) return [thrown]
  return callers.map(({ args, within, node }) => ({
    ...thrown,
    within,
    node,
    parts: parts.flatMap(part => args[parameters.findIndex(name => isHole(part, name))] ?? [part]),
  }))
}

interface Thrown {
  readonly within: string
  /** Of the innermost function, as it is called, and what it takes. */
  readonly name: string
  readonly parameters: readonly string[]
  readonly kind: string
  readonly parts: readonly Part[]
  readonly node: Node
}

interface Call {
  readonly name: string
  readonly args: readonly (readonly Part[])[]
  readonly within: string
  readonly node: Node
}

function visit(node: Node, path: readonly Node[], source: string, made: Thrown[], calls: Call[]): void {
  const text = ({ start, end }: Node) => source.slice(start, end)
  const within = () => placeOf(path, text)
  if (
    node.type === 'NewExpression' &&
    /^(\w*Error|UnreadablePicture)$/.test(text(child(node, 'callee'))) &&
    list(node, 'arguments').length > 0
  ) {
    const inner = path.findLast(({ type }) => /Function/.test(type))
    const parameters = (inner === undefined ? [] : list(inner, 'params')).map(param =>
      param.type === 'Identifier' ? String(param.name) : '',
    )
    // Only of a function that does nothing else.
    const tells = inner !== undefined && isOnly(node, path.slice(path.indexOf(inner)))
    const parts = partsOf(list(node, 'arguments')[0], text)
    made.push({
      within: within(),
      name: within().split('.').at(-1)!,
      parameters: tells ? parameters : [],
      kind: text(child(node, 'callee')),
      parts,
      node,
    })
  }
  if (node.type === 'CallExpression') {
    const name = text(child(node, 'callee')).split('.').at(-1)!
    calls.push({ name, args: list(node, 'arguments').map(arg => partsOf(arg, text)), within: within(), node })
  }
  for (const { node: each } of below(node)) visit(each, [...path, node], source, made, calls)
}

/** True if a function, the first of `path`, only makes the error and names values for it. */
function isOnly(node: Node, path: readonly Node[]): boolean {
  const rest = path.slice(1).filter(({ type }) => !['ThrowStatement', 'ReturnStatement'].includes(type))
  if (rest.length === 0) return true
  return (
    rest.length === 1 &&
    rest[0].type === 'BlockStatement' &&
    list(rest[0], 'body').every(({ type, end }) => type === 'VariableDeclaration' || end >= node.end)
  )
}

/** Class and method, function, or the constant that holds one. */
function placeOf(path: readonly Node[], text: (node: Node) => string): string {
  const names = path.flatMap(node => {
    if (node.type === 'FunctionDeclaration' || node.type === 'ClassDeclaration')
      return node.id === null ? [] : [text(child(node, 'id'))]
    if (node.type === 'MethodDefinition' || node.type === 'PropertyDefinition') return [text(child(node, 'key'))]
    if (node.type === 'VariableDeclarator' && node.init !== null && /Function/.test(child(node, 'init').type))
      return [String(child(node, 'id').name)]
    return []
  })
  if (names.length > 0) return names.join('.')
  const record = path.find(({ type }) => type === 'VariableDeclarator')
  return String((record && child(record, 'id').name) ?? '(the file)')
}

/** The message that an expression gives. */
function partsOf(node: Node, text: (node: Node) => string): Part[] {
  if (node.type === 'Literal' && typeof node.value === 'string') return [node.value]
  if (node.type === 'TemplateLiteral')
    return list(node, 'quasis')
      .flatMap((quasi, i) => [
        (quasi.value as { cooked: string }).cooked,
        ...list(node, 'expressions')
          .slice(i, i + 1)
          .flatMap(hole => partsOf(hole, text)),
      ])
      .filter(part => part !== '')
  if (node.type === 'BinaryExpression' && node.operator === '+')
    return [...partsOf(child(node, 'left'), text), ...partsOf(child(node, 'right'), text)]
  return [{ hole: text(node).replace(/\s+/g, ' ') }]
}

function isHole(part: Part, name: string): boolean {
  return name !== '' && typeof part !== 'string' && part.hole === name
}

function written(parts: readonly Part[]): { template: string; pattern: RegExp } {
  const template = parts.map(part => (typeof part === 'string' ? part : `{${shortened(part.hole)}}`)).join('')
  const pattern = parts
    .map(part => (typeof part === 'string' ? part.replace(/[.*+?^$()[\]{}|\\/]/g, '\\$&') : '[^]*?'))
    .join('')
  return { template, pattern: new RegExp(`^${pattern}$`) }
}

/** An expression where it is a name or reads like one, else three dots. */
function shortened(hole: string): string {
  return hole.length <= 32 && !hole.includes('`') ? hole : '…'
}

function linesOf({ start, end }: Node, source: string): readonly [number, number] {
  return [lineAt(source, start), lineAt(source, end)]
}
