/**
 * Writes the reference from the docstrings, docs/reference, by TypeDoc. Fails on an export without a docstring (typedoc.json),
 * and, by the check below, on a function that takes tensors and does not state their shapes. Needs Node. Used by build.ts.
 */

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JSONOutput } from 'typedoc'
import { writePages } from './reference-pages.ts'

const here = import.meta.dirname

/** Writes the reference. Throws with the names of the functions whose docstrings lack shapes. */
export function writeReference(): void {
  execFileSync(process.execPath, ['node_modules/typedoc/bin/typedoc'], { cwd: here, stdio: 'inherit' })
  const project: JSONOutput.ProjectReflection = JSON.parse(readFileSync(join(here, '.cache/reference.json'), 'utf8'))
  const silent = [...functionsOf(project)].filter(({ signature }) => !saysShapes(signature)).map(({ name }) => name)
  if (silent.length > 0)
    throw new Error(`reference: expected the shapes of tensors in the docstrings of ${silent.join(', ')}`)
  writePages(project, join(here, '.cache/members'), join(here, '../docs/reference'))
}

interface Named {
  readonly name: string
  readonly signature: JSONOutput.SignatureReflection
}

/** Every signature of the package, by its full name. */
function* functionsOf(at: JSONOutput.ContainerReflection, path: readonly string[] = []): Generator<Named> {
  for (const child of at.children ?? []) {
    const inner = [...path, child.name]
    if (!('signatures' in child || 'children' in child)) continue
    for (const signature of child.signatures ?? []) yield { name: inner.join('.'), signature }
    yield* functionsOf(child as JSONOutput.ContainerReflection, inner)
  }
}

/** (…, M, K), (N, C, H, W), or in words. */
const shape = /\((…|[A-Z]|[hd\d])[^)]*\)|\bshape|broadcast|element|one number/

function saysShapes({ parameters = [], comment }: JSONOutput.SignatureReflection): boolean {
  if (!parameters.some(({ type }) => isTensor(type))) return true
  return [comment, ...parameters.map(parameter => parameter.comment)].some(c =>
    shape.test((c?.summary ?? []).map(({ text }) => text).join('')),
  )
}

function isTensor(type: JSONOutput.SomeType | undefined): boolean {
  switch (type?.type) {
    case 'reference':
      return type.name === 'Tensor'
    case 'array':
      return isTensor(type.elementType)
    case 'typeOperator':
      return isTensor(type.target)
    case 'union':
      return type.types.some(isTensor)
    default:
      return false
  }
}
