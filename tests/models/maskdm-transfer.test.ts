/**
 * MaskDM's way from a checkpoint to a model for other pictures.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { rng, type Tensor, tensor } from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import { MaskedUViT } from '../../models/maskdm.ts'
import { loadPretrained, networkState, resizePositions } from '../../models/maskdm-transfer.ts'
import type { HostState } from '../../nn/index.ts'
import { close, values } from '../core/helpers.ts'
import { f64, labelled, make, type Place, pictures } from './maskdm-models.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

const f32: Place = { backend: wasm, dtype: 'f32' }

test('positions: bicubic, as PyTorch interpolates; extra tokens and an equal grid stay as they are', () => {
  const at = (S: number, f: (row: number, column: number) => number, extra: number[]) =>
    tensor([...extra, ...Array.from({ length: S * S }, (_, i) => f(Math.floor(i / S), i % S))], {
      shape: [1, extra.length + S * S, 1],
      ...f64,
    })
  const [extra, same] = resizePositions(
    at(3, (r, c) => 10 * r + c, [-1, -2]),
    2,
    3,
  )
  assert.equal(
    [values(extra), values(same)],
    [
      [-1, -2],
      [0, 1, 2, 10, 11, 12, 20, 21, 22],
    ],
  )
  // torch.nn.functional.interpolate([[1, 2], [4, 8]], size=3, mode='bicubic'), and of arange(9) to 2 × 2
  const [, up] = resizePositions(
    at(2, (r, c) => [1, 2, 4, 8][2 * r + c], [-1]),
    1,
    3,
  )
  close(values(up), [0.675383, 1.109375, 1.543367, 2.282986, 3.75, 5.217014, 3.890589, 6.390625, 8.890661], 1e-6)
  const [, down] = resizePositions(
    at(3, (r, c) => 3 * r + c, [-1]),
    1,
    2,
  )
  close(values(down), [0.765625, 2.382812, 5.617188, 7.234375], 1e-6)
  const [, constant] = resizePositions(
    at(5, () => 7, []),
    0,
    9,
  )
  close(values(constant), new Array<number>(81).fill(7), 1e-12)
  assert.throws(
    () =>
      resizePositions(
        at(3, () => 0, [1]),
        2,
        3,
      ),
    /^resizePositions: expected positions of a square grid, got 8 beside 2 extra tokens$/,
  )
})

test('a checkpoint loads into the same model byte by byte, whatever the prefix of its names', () => {
  const from = make(labelled, 20)
  const wanted = [...from.stateDict()].map(([name, p]) => [name, values(p)] as const)
  for (const prefix of ['', 'model.', 'ema_model.model.']) {
    const into = make(labelled, 21)
    const named = [...from.stateDict()].map(([name, p]) => [prefix + name, p] as const)
    const checkpoint = new Map<string, Tensor | HostState>(named)
    if (prefix !== '') checkpoint.set('betas', { shape: [3], data: [1, 2, 3] })
    loadPretrained(into, checkpoint)
    assert.equal(
      [...into.stateDict()].map(([name, p]) => [name, values(p)] as const),
      wanted,
    )
  }
  assert.throws(
    () => networkState(new Map([['x', { shape: [1], data: [1] }]])),
    /expected a checkpoint with 'encoder\./,
  )
})

test('a checkpoint loads into a model for other pictures', () => {
  const positions = (model: MaskedUViT) => values(model.encoder.encoder_pos_embed)
  const D = 16
  const row = (model: MaskedUViT, i: number) => positions(model).slice(i * D, (i + 1) * D)
  const from = make(labelled, 22)
  const sixteen = { ...labelled, inputSize: 16 }

  const larger = make(sixteen, 23)
  loadPretrained(larger, from.stateDict())
  assert.equal([row(larger, 0), row(larger, 1)], [row(from, 0), row(from, 1)])
  const [, wanted] = resizePositions(from.encoder.encoder_pos_embed, 2, 8)
  assert.equal(positions(larger).slice(2 * D), values(wanted))
  assert.equal(larger.forward(pictures(1, sixteen), [5], [0]).shape, [1, 3, 16, 16])
  assert.equal(values(larger.encoder.label_emb!.weight), values(from.encoder.label_emb!.weight))

  const other = make({ ...labelled, numClasses: 3 }, 24)
  const fresh = values(other.encoder.label_emb!.weight)
  loadPretrained(other, from.stateDict())
  assert.equal(values(other.encoder.label_emb!.weight), fresh)
  assert.equal(positions(other), positions(from))

  const none = make({ ...labelled, numClasses: 0 }, 25)
  loadPretrained(none, from.stateDict())
  assert.equal(positions(none), positions(from).slice(D)) // all but the label's

  const back = make(labelled, 26)
  const [label, token] = [row(back, 0), values(back.encoder.uncond_embed!)]
  loadPretrained(back, none.stateDict())
  assert.equal([row(back, 0), values(back.encoder.uncond_embed!)], [label, token])
  assert.equal(positions(back).slice(D), positions(none))

  assert.throws(() => loadPretrained(make({ ...labelled, patchSize: 4 }), from.stateDict()), /of another shape: .*proj/)
  const f32Model = new MaskedUViT(labelled, { rng: rng(27), ...f32 })
  loadPretrained(f32Model, from.stateDict()) // from f64 on cpu
  close(positions(f32Model), positions(from), 1e-6)
})

test.run()
