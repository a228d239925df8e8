/**
 * Looks into the small trained model: its prediction from a noised picture, the attention of its heads, its gates, and the
 * pictures it generates. The package computes everything. Attention maps are computed again from queries and keys, since
 * the fused kernel keeps none. Used by studio.ts.
 */

import {
  adaLayerNorm,
  add,
  matmul,
  mean,
  mul,
  permute,
  reshape,
  rng,
  scope,
  slice,
  softmax,
  square,
  sub,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { type ImageDataset, imagesOf } from '../../data/dataset.ts'
import { type GaussianDiffusion, pMeanVariance, qSample } from '../../diffusion/index.ts'
import { eps } from '../../models/dit.ts'
import { type GenerationRequest, type MDT, type MDTBlock, mdt, timestepDiffusion } from '../../models/index.ts'
import { runBlock } from './block.ts'
import type { BlockRun } from './block-graph.ts'

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
  /** x̂₀ = (x_t − √(1 − ᾱ) ε̂) / √ᾱ, limited to [−1, 1]. */
  readonly predicted: Uint8ClampedArray
  /** Mean of the pictures of the class: the prediction with the least error once x_t tells nothing about the picture. */
  readonly average: Uint8ClampedArray
  /** Mean squared errors per value, of pictures in [−1, 1]. */
  readonly errors: {
    /** Of the predicted noise ε̂. */
    readonly noise: number
    /** Of x̂₀ before it is limited: (1 − ᾱ)/ᾱ times that of ε̂. */
    readonly picture: number
    readonly clippedPicture: number
    readonly average: number
  }
  /** ᾱ of the step. */
  readonly alphaBar: number
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
  const label = data.label(place.picture)
  const { unclipped, clipped, epsilon } = scope(() => {
    const output = model.forward(xt, [place.t], [label])
    return {
      unclipped: pMeanVariance(d, output, xt, [place.t]).predXStart,
      clipped: pMeanVariance(d, output, xt, [place.t], { clip: true }).predXStart,
      epsilon: slice(output, 1, 0, 3),
    }
  })
  const average = await classMean(data, label) // (1, 3, S, S)
  const result = {
    clean: await pictureOf(x0),
    noised: await pictureOf(xt),
    predicted: await pictureOf(clipped),
    average: await pictureOf(average),
    errors: {
      noise: await squaredError(epsilon, noise),
      picture: await squaredError(unclipped, x0),
      clippedPicture: await squaredError(clipped, x0),
      average: await squaredError(average, x0),
    },
    alphaBar: d.alphaBar[place.t],
  }
  free()
  for (const x of [unclipped, clipped, epsilon, average]) x.dispose()
  return result
}

/** Mean of the pictures of a class, (1, 3, S, S). */
async function classMean(data: ImageDataset, label: number): Promise<Tensor> {
  const pixels: Uint8Array[] = []
  for (let i = 0; i < data.length; i++) if (data.label(i) === label) pixels.push(await data.pixels(i))
  const all = tensor(imagesOf(pixels, data.size), { shape: [pixels.length, 3, data.size, data.size] })
  const average = scope(() => mean(all, 0, true))
  all.dispose()
  return average
}

/** Mean of (a − b)² over all values of a and b (…). */
async function squaredError(a: Tensor, b: Tensor): Promise<number> {
  const error = scope(() => mean(square(sub(a, b))))
  const value = await error.data()
  error.dispose()
  return value[0]
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
    const meanSize = async (gate: Tensor) => {
      const values = Array.from(await gate.data())
      return values.reduce((sum, g) => sum + Math.abs(g), 0) / values.length
    }
    blocks.push({
      maps: (await maps.data()) as Float32Array,
      gates: [await meanSize(gates[0]), await meanSize(gates[1])],
    })
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

/** Values and gradients of one block. The loss is the error of the noise that was added. */
export async function insideBlock(model: MDT, data: ImageDataset, place: Place, index: number): Promise<BlockRun> {
  const { noise, xt, free } = await noisedAt(timestepDiffusion(model.options), data, place)
  const example = { xt, noise, t: place.t, label: data.label(place.picture) }
  const found = await runBlock(model, example, index)
  const noised = await pictureOf(xt)
  free()
  return { ...found, depth: model.options.depth, noised }
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

/** Generates a picture (16, 16, 4) from the noise of a seed. */
export async function generate(
  model: MDT,
  { seed, label, steps, scale, sampler }: PictureRequest,
): Promise<Uint8ClampedArray> {
  const { numClasses } = model.options
  const labels = numClasses === 0 ? null : [label ?? numClasses]
  const guidance = label === null || scale === 1 ? undefined : { scale }
  const [picture] = await generateAll(model, { seeds: [seed], labels, sampler, steps, guidance, clip: true })
  return picture
}

/** Generates the pictures (16, 16, 4) of a request in one batch. */
export async function generateAll(model: MDT, request: GenerationRequest): Promise<Uint8ClampedArray[]> {
  let pictures: Uint8ClampedArray[] = []
  let left = request.steps
  for (const { x } of mdt.generation.generate(model, request)) if (--left === 0) pictures = await picturesOf(x)
  return pictures
}

/** x (1, 3, S, S) in [-1, 1] as RGBA bytes. */
async function pictureOf(x: Tensor): Promise<Uint8ClampedArray> {
  const [picture] = await picturesOf(x)
  return picture
}

/** x (N, 3, S, S) in [-1, 1] as N pictures of RGBA bytes. */
async function picturesOf(x: Tensor): Promise<Uint8ClampedArray[]> {
  const planes = await x.data()
  const area = x.shape[2] * x.shape[3]
  return Array.from({ length: x.shape[0] }, (_, n) => {
    const rgba = new Uint8ClampedArray(4 * area)
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.round((planes[(3 * n + c) * area + i] + 1) * 127.5)
      rgba[4 * i + 3] = 255
    }
    return rgba
  })
}
