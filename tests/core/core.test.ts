/**
 * Tensors, their construction, and observers of ops. Errors of shapes that do not fit are in core-shapes.test.ts,
 * the edges of ops core-edges.test.ts; values of ops are compared with references in properties.test.ts and
 * registry.test.ts.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { allocate } from '../../core/dtype.ts'
import {
  add,
  arange,
  backward,
  cast,
  concat,
  cpu,
  exp,
  firstNonFinite,
  full,
  gatherRows,
  log,
  matmul,
  mul,
  observe,
  ones,
  profile,
  scatterAdd,
  scope,
  sqrt,
  square,
  stats,
  sum,
  type Tensor,
  tensor,
  to,
  where,
  zeros,
} from '../../core/index.ts'
import { normal, tensor64, values } from '../near.ts'

const wasm = await createWasm({ threads: 1 })
const i32 = (data: number[], shape?: number[]) => tensor(data, { dtype: 'i32', backend: cpu, shape })

// ---- making tensors -------------------------------------------------------------------------------------------------

test('tensor takes numbers, nested arrays, and typed arrays flat or nested', async () => {
  const of = (x: Tensor) => [[...x.shape], values(x)]
  assert.equal(of(tensor(5)), [[], [5]])
  assert.equal(of(tensor([])), [[0], []])
  assert.equal(of(tensor([[], []])), [[2, 0], []])
  assert.equal(
    of(
      tensor([
        [[1], [2]],
        [[3], [4]],
      ]),
    ),
    [
      [2, 2, 1],
      [1, 2, 3, 4],
    ],
  )
  assert.equal(of(tensor([Float32Array.of(1, 2), Float64Array.of(3, 4)])), [
    [2, 2],
    [1, 2, 3, 4],
  ])
  assert.equal(of(tensor(Int32Array.of(1, 2, 3), { shape: [3, 1] })), [
    [3, 1],
    [1, 2, 3],
  ])
  assert.equal(of(tensor([1, 2, 3, 4], { shape: [2, 2] })), [
    [2, 2],
    [1, 2, 3, 4],
  ])
  assert.is(tensor(1).dtype, 'f32')
  assert.equal(values(tensor([1.9, -1.9], { dtype: 'i32' })), [1, -1])
  assert.is(await tensor([[7]]).item(), 7)
})

test('tensor copies what it is given', () => {
  const data = Float32Array.of(1, 2)
  const x = tensor(data)
  data[0] = 9
  assert.equal(values(x), [1, 2])
  const read = x.dataSync()
  read[0] = 9
  assert.equal(values(x), [1, 2])
})

test('tensor refuses nesting that is not a box, however the counts add up', () => {
  const nested = /tensor: expected nested arrays of equal lengths, got /
  assert.throws(() => tensor([[1, 2], [3]]), /got an array of 1 beside an array of 2/)
  assert.throws(() => tensor([[1], 2]), /got a number beside an array of 1/)
  assert.throws(() => tensor([1, [2]]), /got an array of 1 beside a number/)
  for (const [given, said] of [
    ['x', '"x"'],
    [null, 'null'],
    [{}, '{}'],
    [true, 'true'],
    [[1, '2'], '"2"'],
    [[[1], ['2']], '"2"'],
  ])
    assert.throws(() => tensor(given as number), `tensor: expected numbers, or nested arrays of them, got ${said}`)
  assert.equal(values(tensor({ length: 2, 0: 3, 1: 4 })), [3, 4])
  assert.throws(
    () =>
      tensor([
        [[1], [2]],
        [
          [3, 4],
          [5, 6],
        ],
        [[], []],
      ]),
    nested,
  ) // six numbers for [3, 2, 1]
  assert.throws(() => tensor([Float32Array.of(1, 2), Float32Array.of(3)]), nested)
  assert.throws(() => tensor([1, 2, 3], { shape: [2, 2] }), /tensor: expected 4 elements for shape \[2, 2\], got 3/)
  assert.throws(
    () => tensor([1, 2], { shape: [-1, -2] }),
    /tensor: expected sizes that are integers from 0, got \[-1, -2\]/,
  )
  assert.throws(() => zeros([2.5]), /full: expected sizes that are integers from 0, got \[2.5\]/)
})

test('full, zeros, ones, arange', () => {
  assert.equal(values(full([2], 3, { dtype: 'i32' })), [3, 3])
  assert.equal([...values(zeros([2])), ...values(ones([2]))], [0, 0, 1, 1])
  assert.equal(values(arange(3)), [0, 1, 2])
  assert.equal([...arange(0).shape], [0])
})

test('a dtype is what it says, on every backend that has it', () => {
  for (const dtype of ['f32', 'f64', 'i32'] as const) {
    const type = { f32: Float32Array, f64: Float64Array, i32: Int32Array }[dtype]
    assert.instance(allocate(dtype, 2), type)
    assert.instance(zeros([1], { dtype, backend: cpu }).dataSync(), type)
  }
  assert.throws(
    () => tensor([1], { dtype: 'f64', backend: wasm }),
    /expected one of f32, i32, which 'wasm' has, got f64/,
  )
  assert.throws(
    () => zeros([1], { dtype: 'f64', backend: wasm }),
    /expected one of f32, i32, which 'wasm' has, got f64/,
  )
})

// ---- backends and dtypes do not mix ---------------------------------------------------------------------------------

test('operands of two dtypes or backends are refused, and the way out is named', () => {
  const [a, b] = [tensor([1], { backend: cpu }), tensor([1], { backend: wasm })]
  const text = (got: string) =>
    new RegExp(`expected operands of one backend and dtype.*, got ${got}; move one with to\\(x, { backend, dtype }\\)`)
  assert.throws(
    () => add(a, b),
    /^add: expected operands of one backend and dtype, got f32 on cpu, f32 on wasm; move one/,
  )
  assert.throws(() => add(a, tensor64([1])), text('f32 on cpu, f64 on cpu'))
  assert.throws(() => matmul(tensor64([[1]]), i32([1], [1, 1])), text('f64 on cpu, i32 on cpu'))
  assert.throws(() => concat([a, tensor64([1])], 0), text('f32 on cpu, f64 on cpu'))
  assert.throws(() => where(i32([1]), a, tensor64([1])), text('i32 on cpu, f32 on cpu, f64 on cpu'))
  assert.throws(() => where(b, a, a), text('f32 on wasm, f32 on cpu, f32 on cpu'))
  assert.throws(
    () => gatherRows(tensor64([[[1]]]), tensor64([[0]])),
    /gatherRows: expected operands .*, and i32 as operand 2, got f64 on cpu/,
  )
  assert.throws(
    () => scatterAdd(tensor64([[0]]), tensor64([[[1]]]), 1),
    /scatterAdd: expected operands .*, and i32 as operand 1/,
  )
  assert.equal(values(add(to(a, { backend: wasm }), b)), [2])
  assert.equal(values(add(to(a, { dtype: 'f64' }), tensor64([1]))), [2])
})

test('to copies between backends and dtypes, outside the graph', () => {
  const w = tensor([1.5, -2], { backend: cpu }).requireGrad()
  for (const moved of [to(w, { backend: wasm }), to(w, { dtype: 'f64' }), to(w, {})]) {
    assert.equal(values(moved), [1.5, -2])
    assert.not.ok(moved.requiresGrad)
  }
  assert.equal(values(cast(w, 'i32')), [1, -2])
})

test('what i32 cannot hold becomes the nearest it can, and NaN 0, however it is converted', () => {
  const x = [1e10, -1e10, Infinity, -Infinity, Number.NaN, -1.5]
  const wanted = [2 ** 31 - 1, -(2 ** 31), 2 ** 31 - 1, -(2 ** 31), 0, -1]
  for (const backend of [cpu, wasm]) {
    assert.equal(values(cast(tensor(x, { backend }), 'i32')), wanted)
    assert.equal(values(to(tensor(x, { backend }), { dtype: 'i32' })), wanted)
    assert.equal(values(tensor(x, { dtype: 'i32', backend })), wanted)
  }
})

test('the gpu backend reads asynchronously, and says so', async () => {
  const x = tensor([[1, 2]], { backend: await gpu({ device: 'cpu' }) })
  assert.throws(() => x.dataSync(), /dataSync: backend 'gpu.*' reads asynchronously; await data\(\)/)
  assert.equal(Array.from(await mul(x, 2).data()), [2, 4])
})

// ---- looking on -----------------------------------------------------------------------------------------------------

test('stats counts tensors, bytes and reads', () => {
  const before = stats(cpu)
  const x = zeros([10], { dtype: 'f64', backend: cpu })
  x.dataSync()
  const after = stats(cpu)
  assert.is(after.tensors - before.tensors, 1)
  assert.is(after.bytes - before.bytes, 80)
  assert.is(after.storages - before.storages, 1)
  assert.is(after.reads - before.reads, 1)
  assert.is(after.fallbacks, 0)
  x.dispose()
})

test('profile adds up calls, arithmetic and bytes per op, forward and backward', () => {
  const a = normal(1, 4, 5).requireGrad()
  const b = normal(2, 5, 6).requireGrad()
  const rows = profile(() => scope(() => backward(sum(matmul(a, b)))))
  const row = rows.find(row => row.op === 'matmul')!
  assert.is(row.calls, 3)
  assert.is(row.flops, 3 * 2 * 4 * 5 * 6)
  assert.is(row.bytes, 3 * 8 * (20 + 30 + 24))
  const stacks = profile(() => scope(() => void matmul(normal(1, 3, 1, 4, 5), normal(2, 2, 5, 6))))
  assert.is(stacks.find(row => row.op === 'matmul')!.flops, 3 * 2 * 2 * 4 * 5 * 6)
  assert.ok(rows.every((row, i) => i === 0 || rows[i - 1].ms >= row.ms))
})

test('observe sees every op with its operands, and stops seeing at the end', () => {
  const seen: string[] = []
  const x = tensor64([1, 4])
  observe(
    (op, inputs, _, results) => seen.push(`${op.name} ${inputs[0].shape} → ${results[0].shape}`),
    () => sum(sqrt(x)),
  )
  exp(x)
  assert.equal(seen, ['sqrt 2 → 2', 'sum 2 → '])
  const both: string[] = []
  const name = (prefix: string) => (op: { name: string }) => void both.push(`${prefix} ${op.name}`)
  observe(name('outer'), () => {
    observe(name('inner'), () => exp(x))
    sqrt(x)
  })
  assert.equal(both, ['outer exp', 'inner exp', 'outer sqrt'])
})

test('firstNonFinite names the op, its shape and how many ran before', async () => {
  const x = tensor64([1, 0, -1])
  assert.equal(await firstNonFinite(() => scope(() => void exp(log(square(square(x)))))), {
    op: 'log',
    shape: [3],
    position: 2,
    label: null,
  })
  assert.is(await firstNonFinite(() => scope(() => void exp(x))), null)
  const another = await firstNonFinite(() => {
    throw new Error('another')
  }).catch((error: Error) => error.message)
  assert.is(another, 'another')
})

test.run()
