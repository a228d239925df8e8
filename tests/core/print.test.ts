/** Tensors as text, in Node, in strings, beside operators and in a browser's console; and whose line an error shows first. */

import { inspect } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createShapes } from '../../core/backends/shapes.ts'
import {
  add,
  arange,
  cpu,
  mul,
  reshape,
  scope,
  showTensorsInDevtools,
  square,
  Tensor,
  tensor,
  zeros,
} from '../../core/index.ts'
import { Linear } from '../../nn/index.ts'

const on = { backend: cpu } as const
const shown = (values: Parameters<typeof tensor>[0], dtype: 'f32' | 'f64' | 'i32' = 'f32') =>
  String(tensor(values, { dtype, ...on }))

test('dtype, shape, backend and values, on one line where they fit', () => {
  assert.is(shown([1, 2, 3], 'i32'), 'Tensor i32 [3] on cpu: [1, 2, 3]')
  assert.is(shown(0.1), 'Tensor f32 [] on cpu: 0.1')
  assert.is(shown(0.1, 'f64'), 'Tensor f64 [] on cpu: 0.1')
  assert.is(shown(1 / 3), 'Tensor f32 [] on cpu: 0.3333333')
  assert.is(shown(1 / 3, 'f64'), 'Tensor f64 [] on cpu: 0.3333333333333333')
  assert.is(String(zeros([0, 3], on)), 'Tensor f32 [0, 3] on cpu: []')
})

test('columns are aligned, axes nest as in NumPy', () => {
  assert.is(
    shown([
      [1, -2.5],
      [10, 0.125],
    ]),
    'Tensor f32 [2, 2] on cpu:\n[[ 1.000, -2.500],\n [10.000,  0.125]]',
  )
  // print(np.arange(12).reshape(3, 2, 2)) with commas
  assert.is(
    String(reshape(arange(12, { dtype: 'i32', ...on }), [3, 2, 2])),
    'Tensor i32 [3, 2, 2] on cpu:\n[[[ 0,  1],\n  [ 2,  3]],\n\n [[ 4,  5],\n  [ 6,  7]],\n\n [[ 8,  9],\n  [10, 11]]]',
  )
})

test('an exponent where NumPy has one; NaN, infinities and −0 by their names', () => {
  assert.is(shown([1e-6, 1]), 'Tensor f32 [2] on cpu: [1e-06, 1e+00]')
  assert.is(shown([1.5, 2048]), 'Tensor f32 [2] on cpu: [1.500e+00, 2.048e+03]')
  assert.is(shown([1, 2048]), 'Tensor f32 [2] on cpu: [   1, 2048]')
  assert.is(shown([1e10, -1]), 'Tensor f32 [2] on cpu: [ 1e+10, -1e+00]')
  assert.is(shown([NaN, -Infinity, 0.5]), 'Tensor f32 [3] on cpu: [      NaN, -Infinity,       0.5]')
  assert.is(shown([-0, 0.5]), 'Tensor f32 [2] on cpu: [-0.0,  0.5]')
  assert.is(shown([-0, 1]), 'Tensor f32 [2] on cpu: [-0,  1]')
})

test('above 1,000 elements long axes keep three at each end, and rows are wrapped', () => {
  const lines = String(reshape(arange(1200, { dtype: 'i32', ...on }), [100, 12])).split('\n')
  assert.equal(lines, [
    'Tensor i32 [100, 12] on cpu:',
    '[[   0,    1,    2, …,    9,   10,   11],',
    ' [  12,   13,   14, …,   21,   22,   23],',
    ' [  24,   25,   26, …,   33,   34,   35],',
    ' …,',
    ' [1164, 1165, 1166, …, 1173, 1174, 1175],',
    ' [1176, 1177, 1178, …, 1185, 1186, 1187],',
    ' [1188, 1189, 1190, …, 1197, 1198, 1199]]',
  ])
  const [, ...wrapped] = String(arange(100, on)).split('\n')
  assert.ok(wrapped.length > 1 && wrapped.every(line => line.length <= 80), wrapped.join('\n'))
  assert.equal(
    wrapped.join(' ').match(/\d+/g)!.map(Number),
    Array.from({ length: 100 }, (_, i) => i),
  )
})

test('the line says what a tensor is part of, that it is disposed, and that values are not to be had at once', () => {
  const w = tensor([1, 2], on).requireGrad()
  const y = mul(w, w)
  assert.is(String(w), 'Tensor f32 [2] on cpu, requires grad: [1, 2]')
  assert.is(String(y), 'Tensor f32 [2] on cpu, result of mul: [1, 4]')
  y.dispose()
  assert.is(inspect(y), 'Tensor f32 [2], disposed')
  const asynchronous = { ...cpu, name: 'far', readSync: undefined }
  const storage = { backend: asynchronous, dtype: 'f32', length: 2, version: 0, holds: 1 } as const
  assert.is(
    String(new Tensor(storage, [2])),
    'Tensor f32 [2] on far: values are read asynchronously, call await x.data()',
  )
  assert.is(
    String(zeros([2], { backend: createShapes() })),
    "Tensor f32 [2] on shapes: shapes: this backend holds no values; build on 'cpu' or 'wasm' to read them",
  )
})

test("Node's console.log shows it, in objects too", () => {
  const x = tensor([[1, 2], [3, 4]], on) // biome-ignore format: a matrix
  assert.is(inspect(x), 'Tensor f32 [2, 2] on cpu:\n[[1, 2],\n [3, 4]]')
  assert.is(inspect({ loss: tensor(2, on) }), '{ loss: Tensor f32 [] on cpu: 2 }')
  assert.is(inspect({ a: { b: [x] } }, { depth: 1 }), '{\n  a: { b: [Array] }\n}'.replace(/\n */g, ' '))
  assert.is(inspect([x], { depth: 0 }), '[ [Tensor f32 [2, 2] on cpu] ]')
})

test('a tensor beside an operator names the function to call', () => {
  const x = tensor([1, 2], on) as unknown as number
  const said = (f: () => unknown) => {
    try {
      return String(f())
    } catch (error) {
      assert.instance(error, TypeError)
      return (error as Error).message
    }
  }
  assert.match(
    said(() => x + 1),
    /^Tensor: expected add\(a, b\) for a \+ b .* got an operator on a f32 tensor of shape \[2\]$/,
  )
  assert.match(
    said(() => x * 2),
    /^Tensor: expected a function such as .*mul\(a, b\).*, or x\.itemSync\(\), got/,
  )
  assert.match(
    said(() => Math.exp(x)),
    /expected a function/,
  )
  assert.is(
    said(() => `${x}`),
    'Tensor f32 [2] on cpu: [1, 2]',
  )
})

test('itemSync gives the only element, and throws for more', () => {
  assert.is(tensor([[2.5]], on).itemSync(), 2.5)
  assert.throws(() => tensor([1, 2], on).itemSync(), /^itemSync: expected one element, got shape \[2\]$/)
})

test("a browser's developer tools show a line, and the rows below it", () => {
  showTensorsInDevtools()
  showTensorsInDevtools()
  const { devtoolsFormatters: formatters } = globalThis as unknown as {
    devtoolsFormatters: {
      header(value: unknown): unknown
      hasBody(value: unknown): boolean
      body(value: unknown): unknown
    }[]
  }
  assert.is(formatters.length, 1)
  const [formatter] = formatters
  assert.is(formatter.header({}), null)
  const matrix = tensor([[1], [2]], on)
  assert.equal(formatter.header(matrix), ['span', {}, 'Tensor f32 [2, 1] on cpu'])
  assert.ok(formatter.hasBody(matrix))
  assert.equal(formatter.body(matrix), ['pre', { style: 'margin: 0 0 0 1em' }, '[[1],\n [2]]'])
  const vector = tensor([1], on)
  assert.equal(formatter.header(vector), ['span', {}, 'Tensor f32 [1] on cpu: [1]'])
  assert.not(formatter.hasBody(vector))
})

// ---- errors ---------------------------------------------------------------------------------------------------------

/** The function that the first frame of a stack names. */
function firstFrame(f: () => unknown): string {
  try {
    f()
  } catch (error) {
    return /^ +at (?:new )?(\S+)/m.exec((error as Error).stack!)![1]
  }
  throw new Error('expected an error')
}

test("an error's stack begins with the caller's line, however deep in the library it was made", () => {
  const unequal = tensor([1, 2, 3], on)
  function addsTheWrongShape(x: Tensor) {
    return add(x, tensor([1, 2], on))
  }
  function callsALayer() {
    return new Linear(2, 2, { rng: null }, {}).forward(unequal)
  }
  function addsTheDisposed() {
    const x = tensor([1], on)
    x.dispose()
    return square(x)
  }
  assert.is(
    firstFrame(() => addsTheWrongShape(unequal)),
    'addsTheWrongShape',
  )
  assert.is(firstFrame(callsALayer), 'callsALayer')
  assert.is(firstFrame(addsTheDisposed), 'addsTheDisposed')
  assert.is(
    firstFrame(() => scope(() => addsTheWrongShape(unequal))),
    'addsTheWrongShape',
  )
})

test("the library's own frames follow, and the limit of frames stays as it was", () => {
  const limit = Error.stackTraceLimit
  try {
    add(tensor([1, 2, 3], on), tensor([1, 2], on))
    assert.unreachable()
  } catch (error) {
    const [message, ...frames] = (error as Error).stack!.split('\n')
    assert.is(message, 'ShapeError: add: expected shapes that broadcast, got [3] and [2]')
    const inside = frames.indexOf('    inside demask:')
    assert.ok(inside > 0)
    assert.match(frames[inside + 1], /new ShapeError/)
    assert.match(frames.at(-1)!, /elementwise\.ts/)
  }
  assert.is(Error.stackTraceLimit, limit)
})

test.run()
