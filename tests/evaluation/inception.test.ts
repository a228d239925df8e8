/**
 * Inception v3 of FID, against pytorch-fid's own network with the same drawn weights (inception-reference.ts makes the
 * reference); and the kernels that came with it, by their definition. Needs Node.
 */

import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, noGrad, rng, scope, type Tensor, tensor } from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import { InceptionV3 } from '../../evaluation/inception.ts'
import { readSafetensors } from '../../io/safetensors-node.ts'
import { Conv2d, shapesOnly } from '../../nn/index.ts'
import { tensor64 } from '../near.ts'
import { drawnInception, drawnPictures, names, outputs } from './inception-reference.ts'

const backend = await ready()
test.after(() => backend.dispose())

test('names and shapes are those of the published file', () => {
  const model = new InceptionV3(shapesOnly)
  const own = Array.from(model.stateDict(), ([name, { shape }]) => `${name} [${shape.join(', ')}]`)
  assert.equal(own.sort(), readFileSync(names, 'utf8').trim().split('\n').sort())
  assert.is(model.countParameters().total, 23_850_960)
})

test("the features of pytorch-fid's network", () => {
  const { tensors } = readSafetensors(outputs)
  const model = drawnInception()
  const { data, shape } = drawnPictures()
  const far = (got: Tensor, name: string) => {
    const wanted = tensors.get(name)!
    assert.equal(got.shape, wanted.shape, name)
    const values = got.dataSync()
    let [most, largest] = [0, 0]
    for (let i = 0; i < values.length; i++) {
      most = Math.max(most, Math.abs(values[i] - Number(wanted.data[i])))
      largest = Math.max(largest, Math.abs(Number(wanted.data[i])))
    }
    return most / largest
  }
  scope(() => {
    const { pool, spatial, logits } = model.features(
      tensor(
        data.map(x => 2 * x - 1),
        { shape },
      ),
    )
    for (const [got, name] of [
      [pool, 'pool'],
      [spatial, 'spatial'],
      [logits, 'logits'],
    ] as const)
      assert.ok(far(got, name) < 1e-5, `${name}: ${far(got, name)}`)
    assert.throws(() => model.features(tensor(data, { shape: [6, 1, 40, 56] })), /expected pictures \[N, 3, H, W\]/)
  })
  model.dispose()
})

test('a file that also counts batches loads', () => {
  const model = new InceptionV3({ rng: null })
  const state = new Map<string, Tensor | { shape: number[]; data: number[] }>(model.stateDict())
  state.set('Mixed_5b.branch1x1.bn.num_batches_tracked', { shape: [], data: [0] })
  model.loadStateDict(state)
  state.delete('fc.bias')
  assert.throws(() => model.loadStateDict(state), /InceptionV3: missing: fc\.bias/)
  model.dispose()
})

test('a kernel of a height and a width', () => {
  const init = { rng: rng(3), dtype: 'f64', backend: cpu } as const
  const conv = new Conv2d(1, 1, [1, 3], init, { padding: [0, 0, 1, 1] })
  conv.loadStateDict(
    new Map([
      ['weight', { shape: [1, 1, 1, 3], data: [1, 10, 100] }],
      ['bias', { shape: [1], data: [0] }],
    ]),
  )
  assert.equal([...noGrad(() => conv.forward(tensor64([1, 2, 3, 4], [1, 1, 2, 2]))).dataSync()], [210, 21, 430, 43])
})

test.run()
