/**
 * Arrays of no elements on one backend, against cpu: sums over nothing are 0 wherever they hide (gradients of weights over
 * no rows, products over no columns), an index of nothing is in range, and every byte is counted. Used by gpu.test.ts,
 * webgpu/backend.test.ts and webgl2-page.ts; only what runs in a browser is used here.
 */

import * as assert from 'uvu/assert'
import * as core from '../../core/index.ts'
import { type Backend, cpu, rng, type Tensor, tensor } from '../../core/index.ts'
import { distance } from './registry-walk.ts'

type Shape = readonly number[]

/** Shapes of the inputs, which are drawn, and what is made of them. */
type Case = readonly [shapes: readonly Shape[], f: (...x: Tensor[]) => Tensor]

const written = (backend: Backend, shape: Shape) => tensor(new Int32Array(0), { shape, dtype: 'i32', backend })
const computed = (backend: Backend) => {
  const two = tensor(Int32Array.of(0, 1), { shape: [1, 2], dtype: 'i32', backend })
  return core.slice(two, 1, 0, 0)
}

const cases: Readonly<Record<string, Case>> = {
  'elementwise, broadcast': [[[0, 4], [4]], (x, y) => core.add(core.silu(x), y)],
  where: [[[0, 4], [4]], (x, y) => core.where(core.less(x, y), x, y)],
  sum: [[[3, 0]], x => core.sum(x, 1)],
  max: [[[0, 3]], x => core.max(x, 1)],
  softmax: [[[2, 0]], x => core.softmax(x)],
  'logSoftmax of no rows': [[[0, 3]], x => core.logSoftmax(x)],
  permute: [[[2, 0, 3]], x => core.permute(x, [2, 0, 1])],
  pad: [[[0, 3]], x => core.pad(x, [1, 0], [2, 3])],
  'concat, the first empty': [[[0], [2]], (...xs) => core.concat(xs, 0)],
  'concat, the second computed': [[[2], [3]], (x, y) => core.concat([x, core.slice(y, 0, 1, 1)], 0)],
  'concat, all empty': [[[0], [0]], (...xs) => core.concat(xs, 0)],
  'matmul, no rows': [
    [
      [0, 2],
      [2, 3],
    ],
    (a, b) => core.matmul(a, b),
  ],
  'matmul, nothing to add': [
    [
      [2, 0],
      [0, 3],
    ],
    (a, b) => core.matmul(a, b),
  ],
  'linear, no rows': [[[0, 2], [3, 2], [3]], core.linear],
  'linear, no inputs': [[[2, 0], [3, 0], [3]], core.linear],
  'linear, no outputs': [[[2, 3], [0, 3], [0]], core.linear],
  'linear, no outputs and no bias': [
    [
      [2, 3],
      [0, 3],
    ],
    core.linear,
  ],
  'gatherRows, an index that was written': [[[1, 3, 2]], x => core.gatherRows(x, written(x.backend, [1, 0]))],
  'gatherRows, an index that was computed': [[[1, 3, 2]], x => core.gatherRows(x, computed(x.backend))],
  'gatherRows from no rows': [[[1, 0, 2]], x => core.gatherRows(x, written(x.backend, [1, 0]))],
  'scatterAdd, an index that was written': [[[1, 0, 2]], x => core.scatterAdd(written(x.backend, [1, 0]), x, 3)],
  'scatterAdd, an index that was computed': [[[1, 0, 2]], x => core.scatterAdd(computed(x.backend), x, 3)],
  'scatterAdd to few rows': [[[1, 0, 2]], x => core.scatterAdd(computed(x.backend), x, 1)],
  'layerNorm of no rows': [[[0, 4], [4], [4]], (x, w, b) => core.layerNorm(x, w, b, 1e-5)],
  'adaLayerNorm of no tokens': [
    [
      [2, 0, 4],
      [2, 4],
      [2, 4],
    ],
    (x, shift, scale) => core.adaLayerNorm(x, shift, scale, 1e-5),
  ],
  'gatedResidual of no tokens': [
    [
      [2, 0, 4],
      [2, 4],
      [2, 0, 4],
    ],
    core.gatedResidual,
  ],
  'selfAttention of no pictures': [
    [
      [0, 2, 12],
      [2, 2, 2],
    ],
    (qkv, bias) => core.selfAttention(qkv, bias, 2),
  ],
  'selfAttention of no tokens': [[[2, 0, 12]], qkv => core.selfAttention(qkv, null, 2)],
  'conv2d of no pictures': [[[0, 1, 4, 4], [2, 1, 3, 3], [2]], (x, w, b) => core.conv2d(x, w, b)],
}

/** The value of a case and the gradients of its sum. */
function evaluate([shapes, f]: Case, backend: Backend): Tensor[] {
  return core.scope(() => {
    const random = rng(1)
    const x = shapes.map(shape => random.normal(shape, { backend }).requireGrad())
    const y = f(...x)
    return [y, ...core.gradients(core.sum(y), x)].map(t => t.detach())
  })
}

/** Runs all cases. Throws an assertion with a line for all that is wrong. */
export async function walkEmpty(backend: Backend): Promise<void> {
  const found: string[] = []
  for (const [name, made] of Object.entries(cases)) {
    const before = backend.stats().bytes
    // Fill the pool with non-zero arrays.
    const junk = Array.from({ length: 16 }, () => core.full([64], 99, { backend }))
    for (const t of junk) t.dispose()
    const wanted = evaluate(made, cpu)
    try {
      const got = evaluate(made, backend)
      for (const [i, t] of got.entries()) {
        const [values, exact] = [await t.data(), wanted[i].dataSync()]
        if (distance(values, exact, 1e-5) > 1) found.push(`${name}, result ${i}: expected ${exact}, got ${values}`)
      }
      for (const t of got) t.dispose()
    } catch (error) {
      found.push(`${name}: ${(error as Error).message}`)
    }
    for (const t of wanted) t.dispose()
    const left = backend.stats().bytes - before
    if (left !== 0) found.push(`${name}: ${left} bytes left behind`)
  }
  assert.ok(found.length === 0, `\n${found.join('\n')}`)
}
