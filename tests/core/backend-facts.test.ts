/**
 * The facts that all backends share (core/backend.ts, core/shape.ts): every function of a `unary`, `binary` or `reduce`
 * kernel exists on every backend, and collapsed axes walk the same elements in the same order.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binaryNames, type Operand, reduceNames, type Spec, type Storage, unaryNames } from '../../core/backend.ts'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { type Backend, cpu } from '../../core/index.ts'
import { collapseAxes, reduceGroups, sizeOf, stridesOf } from '../../core/shape.ts'

const backends: Record<string, Backend> = {
  cpu,
  wasm: await createWasm({ threads: 1 }),
  gpu: await gpu({ device: 'cpu' }),
}

for (const [name, backend] of Object.entries(backends)) {
  test(`${name}: no kernel is undefined`, () => {
    for (const [kernel, run] of Object.entries(backend.kernels)) assert.type(run, 'function', kernel)
  })

  for (const dtype of ['f32', 'i32'] as const) {
    test(`${name} ${dtype}: every function of unary, binary and reduce gives what cpu gives`, async () => {
      const shape = [3]
      const numbers = dtype === 'f32' ? [0.25, 0.5, 2] : [1, 2, 3]
      const on = (place: Backend): Operand => {
        const storage = place.alloc(dtype, 3)
        place.write(storage, dtype === 'f32' ? Float32Array.from(numbers) : Int32Array.from(numbers))
        return { dtype, shape, storage }
      }
      const [x, wanted] = [on(backend), on(cpu)]
      async function same(what: string, out: Spec, run: (place: Backend, operand: Operand) => Storage) {
        const [got, right] = [run(backend, x), run(cpu, wanted)]
        const [a, b] = [await backend.read(got), await cpu.read(right)]
        a.forEach((value, i) => {
          assert.ok(Math.abs(value - b[i]) <= 1e-6 * Math.max(1, Math.abs(b[i])), `${what}: ${a} for ${b}`)
        })
        assert.is(a.length, sizeOf(out.shape), what)
        backend.free(got)
        cpu.free(right)
      }
      for (const f of unaryNames)
        await same(f, { dtype, shape }, (place, operand) => place.kernels.unary(f, operand, { dtype, shape }, 2, 3))
      for (const f of binaryNames)
        await same(f, { dtype, shape }, (place, operand) => place.kernels.binary(f, operand, operand, { dtype, shape }))
      for (const f of reduceNames)
        await same(f, { dtype, shape: [] }, (place, operand) =>
          place.kernels.reduce(f, operand, [0], { dtype, shape: [] }),
        )
      backend.free(x.storage)
      cpu.free(wanted.storage)
    })
  }
}

/** Positions that a walk visits for each operand, in order. */
function visits(extents: readonly number[], strides: readonly (readonly number[])[]): number[][] {
  const own = stridesOf(extents)
  return Array.from({ length: sizeOf(extents) }, (_, i) =>
    strides.map(steps =>
      steps.reduce((sum, step, axis) => sum + (Math.floor(i / own[axis]) % extents[axis]) * step, 0),
    ),
  )
}

const walks = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 5 }).chain(extents =>
  fc.tuple(
    fc.constant(extents),
    fc.array(fc.array(fc.boolean(), { minLength: extents.length, maxLength: extents.length }), {
      minLength: 1,
      maxLength: 3,
    }),
  ),
)

test('collapsed axes visit the same elements in the same order, and no two of them merge', () => {
  fc.assert(
    fc.property(walks, ([extents, broadcast]) => {
      // An operand that is broadcast along some axes.
      const strides = broadcast.map(axes =>
        stridesOf(extents.map((n, i) => (axes[i] ? 1 : n))).map((step, i) => (axes[i] ? 0 : step)),
      )
      const walk = collapseAxes(extents, strides)
      assert.equal(visits(walk.extents, walk.strides), visits(extents, strides))
      assert.not.ok(walk.extents.includes(1))
      for (let axis = 1; axis < walk.extents.length; axis++)
        assert.ok(walk.strides.some(own => own[axis - 1] !== own[axis] * walk.extents[axis]))
    }),
  )
})

test('groups of a reduction alternate and have the sizes of their axes', () => {
  assert.equal(reduceGroups([2, 3, 1, 5, 7], [1, 2, 3]), [
    { extent: 2, reduced: false },
    { extent: 15, reduced: true },
    { extent: 7, reduced: false },
  ])
  assert.equal(reduceGroups([4, 1, 5], [1]), [{ extent: 20, reduced: false }])
  assert.equal(reduceGroups([1, 1], [0]), [])
  fc.assert(
    fc.property(walks, ([extents, [reduced]]) => {
      const axes = [...extents.keys()].filter(axis => reduced[axis])
      const groups = reduceGroups(extents, axes)
      for (const flag of [true, false])
        assert.is(
          sizeOf(groups.filter(group => group.reduced === flag).map(group => group.extent)),
          sizeOf(extents.filter((_, axis) => reduced[axis] === flag)),
        )
      groups.slice(1).forEach((group, i) => {
        assert.not.equal(group.reduced, groups[i].reduced)
      })
    }),
  )
})

test.run()
