/**
 * Kernel arguments have names: a launch whose arguments are swapped, missing or superfluous does not compile, and the
 * words of an argument block are where the kernel reads them. `npm run typecheck` checks the first half: a line below a
 * `@ts-expect-error` that compiles is an error.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findKernels, hostModule } from '../../core/backends/wasm/bindings.ts'
import { writers } from '../../core/backends/wasm/generated/kernels.ts'
import type { Address } from '../../core/backends/wasm/memory.ts'
import type { Runtime } from '../../core/backends/wasm/runtime.ts'

/** Never called: only its types matter. */
export function launches({ launch, kernels }: Runtime, a: Address, b: Address): void {
  launch(kernels.unaryExp, 1, { x: a, y: b, vectors: 1, vectorsPerChunk: 1, p: 0, q: 0 })
  // @ts-expect-error: missing, q
  launch(kernels.unaryExp, 1, { x: a, y: b, vectors: 1, vectorsPerChunk: 1, p: 0 })
  // @ts-expect-error: superfluous, r
  launch(kernels.unaryExp, 1, { x: a, y: b, vectors: 1, vectorsPerChunk: 1, p: 0, q: 0, r: 0 })
  // @ts-expect-error: swapped, x and vectors
  launch(kernels.unaryExp, 1, { x: 1, y: b, vectors: a, vectorsPerChunk: 1, p: 0, q: 0 })
  // @ts-expect-error: the arguments of another kernel
  launch(kernels.softmax, 1, { x: a, y: b, vectors: 1, vectorsPerChunk: 1, p: 0, q: 0 })
  // @ts-expect-error: absent, but the operand is required
  launch(kernels.softmax, 1, { x: null, y: b, rows: 1, rowsPerChunk: 1, D: 1 })
  // @ts-expect-error: no such kernel
  launch(kernels.unaryNope, 1, { x: a, y: b, vectors: 1, vectorsPerChunk: 1, p: 0, q: 0 })
}

/** A class of the compiler's syntax tree with these fields, and a kernel that takes it. */
function source(fields: Readonly<Record<string, string>>) {
  const type = (text: string) => ({ name: { identifier: { text } } })
  const members = Object.entries(fields).map(([text, of]) => ({ name: { text }, type: type(of) }))
  const parameters = [{ type: type('NopeArgs') }, { type: type('i32') }]
  const statements = [
    { name: { text: 'NopeArgs' }, decorators: null, members },
    { name: { text: 'nope' }, decorators: null, signature: { parameters }, typeParameters: null },
  ]
  return [{ internalPath: 'kernels/nope.as', simplePath: 'nope.as', statements }]
}

test('an argument block: addresses, integers, floats by their bits, flags and absent operands, one word each', () => {
  const words = new Int32Array(32)
  const floats = new Float32Array(words.buffer)
  const address = (bytes: number) => bytes as Address
  // The order of fields is that of the class in kernels/norm.as.ts.
  const norm = { x: address(64), a: null, b: address(0xffffffc0), y: address(192), rows: 3, rowsPerChunk: 2, D: 5 }
  writers.layerNorm({ ...norm, rowsPerGroup: 7, eps: 0.5, plus: 1 }, words, floats)
  assert.equal([...words.subarray(0, 8)], [64, 0, 0xffffffc0 | 0, 192, 3, 2, 5, 7])
  assert.equal([...floats.subarray(8, 10)], [0.5, 1])
  const panels = {
    a: address(64),
    b: address(128),
    panelsOfA: 1,
    panelsOfB: 2,
    panelsPerChunk: 8,
    K: 3,
    c: address(192),
    stride: 8,
  }
  writers.addProduct({ ...panels, subtract: true, upper: false }, words)
  assert.equal([...words.subarray(0, 10)], [64, 128, 1, 2, 8, 3, 192, 8, 1, 0])
})

test('a table follows the other arguments', () => {
  const words = new Int32Array(32)
  const to = 64 as Address
  const box = { from: to, to, R: 1, C: 2, fromStep: 3, toStep: 4, rowsPerUnit: 16, units: 5, unitsPerChunk: 6 }
  writers.transpose({ ...box, rank: 2, table: [7, 8, 9, 10, 11, 12] }, words)
  assert.equal([...words.subarray(0, 17)], [64, 64, 1, 2, 3, 4, 16, 5, 6, 2, 7, 8, 9, 10, 11, 12, 0])
})

test('the host has an interface and a writer for an argument class', () => {
  const text = hostModule(findKernels(source({ x: 'Address', n: 'i32', eps: 'f32', bias: 'OptionalAddress' })))
  for (const line of [
    'export interface NopeArgs {',
    '  readonly eps: number',
    '  readonly bias: Address | null',
    '  floats[2] = args.eps',
    '  words[3] = args.bias ?? 0',
    '  nope: writeNopeArgs,',
  ])
    assert.ok(text.split('\n').includes(line), line)
})

test('a field that is not one word, and a table that is not the last field, do not build', () => {
  const message = (type: string) => new RegExp(`^NopeArgs.x: expected a type of kernels/arguments.as.ts, got ${type}$`)
  assert.throws(() => findKernels(source({ x: 'i64' })), message('i64'))
  assert.throws(() => findKernels(source({ x: 'Table', n: 'i32' })), message('Table'))
})

test.run()
