/** A module's summary, and modules and tensors that move to another backend in place. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { backward, cpu, mul, rng, scope, square, sum, tensor } from '../../core/index.ts'
import { Activation, buffer, frozen, Linear, Module, parameter, Sequential } from '../../nn/index.ts'

const wasm = await createWasm({ threads: 1 })

class Mixed extends Module {
  readonly weight = parameter(tensor([[1, 2, 3]], { backend: cpu }))
  readonly tied = this.weight
  readonly table = frozen(tensor([4], { backend: cpu }))
  readonly index = buffer(tensor([0, 1], { dtype: 'i32', backend: cpu }))
}

test('the summary names every tensor once, with its shape, parameters and bytes, and adds them up', () => {
  assert.equal(new Mixed().summary().split('\n'), [
    'Mixed',
    'name    shape       parameters  bytes',
    'weight  f32 [1, 3]           3     12',
    'table   f32 [1]              1      4  frozen',
    'index   i32 [2]              0      8  buffer',
    'total                        4     24  3 trainable',
  ])
  const init = { rng: rng(0), backend: cpu }
  const network = new Sequential([new Linear(64, 32, init), new Activation(square), new Linear(32, 1, init)])
  const lines = network.summary().split('\n')
  assert.equal(lines.slice(2, -1).map(line => line.split(/ +/)[0]), ['0.weight', '0.bias', '2.weight', '2.bias']) // biome-ignore format: a line
  assert.match(lines.at(-1)!, /^total +2,113 +8,452 +2,113 trainable$/)
  assert.is(network.countParameters().total, 2113)
})

test('to moves state and gradients to another backend, and the parameters stay the same leaves', async () => {
  const [bytes, wasmBytes] = [cpu.stats().bytes, wasm.stats().bytes]
  const model = new Mixed()
  const { weight } = model
  scope(() => backward(sum(square(weight))))
  assert.is(await model.to(wasm), model)
  assert.is(model.weight, weight)
  for (const t of [weight, weight.grad!, model.table, model.index]) assert.is(t.backend, wasm)
  assert.is(cpu.stats().bytes, bytes)
  assert.equal([...weight.dataSync(), ...weight.grad!.dataSync()], [1, 2, 3, 2, 4, 6])
  scope(() => backward(sum(mul(weight, 10))))
  assert.equal([...weight.grad!.dataSync()], [12, 14, 16])
  await model.to(wasm)
  assert.equal([...weight.dataSync()], [1, 2, 3])
  model.dispose()
  assert.is(wasm.stats().bytes, wasmBytes)
})

test('nothing moves to a backend without a dtype, and results of ops do not move in place', async () => {
  class Exact extends Module {
    readonly a = parameter(tensor([1], { backend: cpu }))
    readonly b = parameter(tensor([1], { dtype: 'f64', backend: cpu }))
  }
  const model = new Exact()
  const problem = async (run: () => Promise<unknown>) => {
    try {
      await run()
    } catch (error) {
      return (error as Error).message
    }
    return 'no error'
  }
  assert.is(await problem(() => model.to(wasm)), "Exact.to: expected state in f32, i32, which 'wasm' has, got f64 in b")
  assert.is(model.a.backend, cpu)
  assert.is(await problem(() => model.b.moveTo(wasm)), "moveTo: expected one of f32, i32, which 'wasm' has, got f64")
  assert.is(
    await problem(() => square(model.a).moveTo(wasm)),
    'moveTo: expected a leaf, got a result of square; call to(x, { backend })',
  )
})

test.run()
