/** Syntax trees of our TypeScript (ESTree, by Vite's parser), for tests that read the source. Used by mutate/ and errors/. Needs Node. */

import { parseSync } from 'vite'

export interface Node {
  readonly type: string
  /** UTF-16 offsets. */
  readonly start: number
  readonly end: number
  readonly [field: string]: unknown
}

/** The tree of a file. Throws where it cannot be parsed. */
export function parse(file: string, source: string): Node {
  const { program, errors } = parseSync(file, source)
  if (errors.length > 0) throw new Error(`${file}: ${errors[0].message}`)
  return program as unknown as Node
}

/** A field that is a node. */
export function child(node: Node, field: string): Node {
  return node[field] as Node
}

/** A field that is a list of nodes. */
export function list(node: Node, field: string): readonly Node[] {
  return node[field] as readonly Node[]
}

/** All nodes right below one, with the field that they are in. */
export function below(node: Node): { readonly field: string; readonly node: Node }[] {
  return Object.entries(node).flatMap(([field, value]) =>
    (Array.isArray(value) ? value : [value])
      .filter((each): each is Node => typeof each === 'object' && each !== null && 'type' in each)
      .map(each => ({ field, node: each })),
  )
}

/** The number of the line that an offset is on, counted from 1. */
export function lineAt(source: string, offset: number): number {
  return source.slice(0, offset).split('\n').length
}
