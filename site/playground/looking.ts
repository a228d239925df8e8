/**
 * Looks into the small trained model: its prediction from a noised picture, the attention of its heads, its gates, and the
 * pictures it generates. The package computes everything. Attention maps are computed again from queries and keys, since
 * the fused kernel keeps none. Used by studio.ts.
 */

import {
  adaLayerNorm,
  add,
  matmul,
  mul,
  permute,
  reshape,
  rng,
  scope,
  slice,
  softmax,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { type ImageDataset, imagesOf } from '../../data/dataset.ts'
import { type GaussianDiffusion, pMeanVariance, qSample } from '../../diffusion/index.ts'
import { eps } from '../../models/dit.ts'
import { type MDT, type MDTBlock, mdt, timestepDiffusion } from '../../models/index.ts'

/** Which picture, how noised. */
export interface Place {
  readonly picture: number
  /** In [0, 1000). */
  readonly t: number
  readonly seed: number
}

/** Pictures as RGBA, (16, 16, 4). */
export interface Glance {
  readonly clean: Uint8ClampedArray
  readonly noised: Uint8ClampedArray
  /** The picture that the model has in mind. */
  readonly predicted: Uint8ClampedArray
  /** Mean squared error of the predicted noise. */
  readonly error: number
}

/** Returns a picture with the noise of step t, which the model sees. */
async function noisedAt(d: GaussianDiffusion, data: ImageDataset, { picture, t, seed }: Place) {
  const S = data.size
  const x0 = tensor(imagesOf([await data.pixels(picture)], S), { shape: [1, 3, S, S] })
  const noise = rng(seed).normal([1, 3, S, S])
  const xt = scope(() => qSample(d, x0, [t], noise)) // (1, 3, S, S)
  return { x0, noise, xt, free: () => [x0, noise, xt].forEach(x => void x.dispose()) }
}

export async function glance(model: MDT, data: ImageDataset, place: Place): Promise<Glance> {
  const d = timestepDiffusion(model.options)
  const { x0, noise, xt, free } = await noisedAt(d, data, place)
  const label = [data.label(place.picture)]
  const { predXStart, epsilon } = scope(() => {
    const output = model.forward(xt, [place.t], label)
    return {
      predXStart: pMeanVariance(d, output, xt, [place.t], { clip: true }).predXStart,
      epsilon: slice(output, 1, 0, 3),
    }
  })
  const [said, was] = [Array.from(await epsilon.data()), await noise.data()]
  const result = {
    clean: await pictureOf(x0),
    noised: await pictureOf(xt),
    predicted: await pictureOf(predXStart),
    error: said.reduce((sum, e, i) => sum + (e - was[i]) ** 2, 0) / said.length,
  }
  free()
  predXStart.dispose()
  epsilon.dispose()
  return result
}

/** One of these per block, in the order of the model. */
export interface BlockLook {
  /** (heads, T, T): row i says where token i looks. */
  readonly maps: Float32Array
  /** Mean size of the gates, of attention and of the MLP. */
  readonly gates: readonly [number, number]
}

export interface Look {
  readonly heads: number
  readonly tokens: number
  readonly blocks: readonly BlockLook[]
  readonly noised: Uint8ClampedArray
}

export async function look(model: MDT, data: ImageDataset, place: Place): Promise<Look> {
  const { xt, free } = await noisedAt(timestepDiffusion(model.options), data, place)
  const { depth, decodeLayer, numHeads } = model.options
  const found = scope(() => {
    const c = model.condition(1, [place.t], [data.label(place.picture)])
    let x = model.embed(xt) // (1, T, D)
    return [...model.blocks].map((block, i) => {
      if (i === depth - decodeLayer) x = add(x, model.decoder_pos_embed)
      const seen = attentionOf(block, x, c)
      x = block.forward(x, c)
      return seen
    })
  })
  const blocks: BlockLook[] = []
  for (const { maps, gates } of found) {
    const mean = async (gate: Tensor) => {
      const values = Array.from(await gate.data())
      return values.reduce((sum, g) => sum + Math.abs(g), 0) / values.length
    }
    blocks.push({ maps: (await maps.data()) as Float32Array, gates: [await mean(gates[0]), await mean(gates[1])] })
    for (const x of [maps, ...gates]) x.dispose()
  }
  const noised = await pictureOf(xt)
  free()
  const tokens = Math.sqrt(blocks[0].maps.length / numHeads)
  return { heads: numHeads, tokens, blocks, noised }
}

/** softmax(q kᵀ/√d + bias) of a block's attention, (1, h, T, T), and its two gates, (1, D). */
function attentionOf({ attn, adaLN_modulation }: MDTBlock, x: Tensor, c: Tensor): { maps: Tensor; gates: Tensor[] } {
  const [shift, scale, gate, , , mlpGate] = adaLN_modulation.vectors(c)
  const qkv = attn.qkv.forward(adaLayerNorm(x, shift, scale, eps)) // (1, T, 3 D)
  const [N, T, D] = x.shape
  const d = D / attn.heads
  const split = permute(reshape(qkv, [N, T, 3, attn.heads, d]), [2, 0, 3, 1, 4]) // (3, 1, h, T, d)
  const part = (i: number) => reshape(slice(split, 0, i, i + 1), [N, attn.heads, T, d])
  const logits = mul(matmul(part(0), part(1), { transposeB: true }), 1 / Math.sqrt(d)) // (1, h, T, T)
  const bias = attn.rel_pos_bias?.forward()
  return { maps: softmax(bias === undefined ? logits : add(logits, bias)), gates: [gate, mlpGate] }
}

/** A picture to generate. */
export interface PictureRequest {
  readonly seed: number
  /** Of the model's classes; null for none. */
  readonly label: number | null
  readonly steps: number
  /** Guidance: 1 is none. */
  readonly scale: number
  readonly sampler: 'ddim' | 'ddpm'
}

/** Generates a picture (16, 16, 4) from the noise of a seed. `onStep` sees the picture that each step predicts. */
export async function generate(
  model: MDT,
  { seed, label, steps, scale, sampler }: PictureRequest,
  onStep?: (picture: Uint8ClampedArray) => void,
): Promise<Uint8ClampedArray> {
  const { numClasses } = model.options
  const labels = numClasses === 0 ? null : [label ?? numClasses]
  const guidance = label === null || scale === 1 ? undefined : { scale }
  let left = steps
  let picture: Uint8ClampedArray = new Uint8ClampedArray()
  for (const { x, predXStart } of mdt.generation.generate(model, {
    seeds: [seed],
    labels,
    sampler,
    steps,
    guidance,
    clip: true,
  })) {
    left--
    if (left === 0 || onStep !== undefined) picture = await pictureOf(left === 0 ? x : predXStart)
    onStep?.(picture)
  }
  return picture
}

/** x (1, 3, S, S) in [-1, 1] as RGBA bytes. */
async function pictureOf(x: Tensor): Promise<Uint8ClampedArray> {
  const planes = await x.data()
  const area = planes.length / 3
  const rgba = new Uint8ClampedArray(4 * area)
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.round((planes[c * area + i] + 1) * 127.5)
    rgba[4 * i + 3] = 255
  }
  return rgba
}
