/**
 * The problem of all peers: the same inputs and weights, sampled once and written to a folder as one file of f32 and one of
 * names, and the cost of one run of each work. The network of `step` is DiT-S/2 on patches (8, 64, 16), with sinusoids of
 * the timestep given, no labels, and the mean squared error towards `target` as loss. Needs Node.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rng, type Shape } from '../../core/index.ts'
import { DiT, ditPreset } from '../../models/index.ts'

export type WorkName = 'matmul' | 'layerNorm' | 'softmax' | 'gelu' | 'block' | 'step' | 'forward'

export interface WorkCost {
  readonly name: string
  readonly flops?: number
  /** Read and written at the least. */
  readonly bytes?: number
}

const [N, T, D, depth] = [8, 64, 384, 12]
// Products of a block forward: qkv 3D², projection D², MLP 8D² per token; q kᵀ and the product with v; the modulation 6D².
const block = 2 * N * (T * 12 * D * D + 2 * T * T * D + 6 * D * D)
const rest = 2 * N * (2 * T * 16 * D + 256 * D + D * D + 2 * D * D)

export const works: Readonly<Record<WorkName, WorkCost>> = {
  matmul: { name: 'matmul 512³', flops: 2 * 512 ** 3 },
  layerNorm: { name: 'layer norm 4096×384', bytes: 8 * 4096 * 384 },
  softmax: { name: 'softmax 3072×64', bytes: 8 * 3072 * 64 },
  gelu: { name: 'gelu (tanh) 4M', bytes: 8 * 2 ** 22 },
  block: { name: 'DiT block 8×64×384, forward + backward', flops: 3 * block },
  step: { name: 'DiT-S/2 step + AdamW, 8×64 tokens', flops: 3 * (depth * block + rest) },
  forward: { name: 'DiT-S/2 forward only, 8×64 tokens', flops: depth * block + rest },
}

/** Name → shape and first element in the file of values. */
type Index = Readonly<Record<string, { readonly shape: Shape; readonly at: number }>>

/** Draws all inputs and weights into `folder`. */
export function writeProblem(folder: string): void {
  const random = rng(7)
  const values: Float32Array[] = []
  const index: Record<string, { shape: Shape; at: number }> = {}
  let at = 0
  const put = (name: string, shape: Shape, data: Float32Array) => {
    index[name] = { shape, at }
    values.push(data)
    at += data.length
  }
  const sampleNormal = (name: string, shape: Shape, scale = 1) => {
    const size = shape.reduce((a, b) => a * b, 1)
    put(
      name,
      shape,
      Float32Array.from(random.normalArray(size), x => scale * x),
    )
  }
  for (const name of ['a', 'b']) sampleNormal(name, [512, 512])
  sampleNormal('wide', [2 ** 22])
  sampleNormal('rows', [4096, D])
  sampleNormal('scores', [3072, T])
  for (const name of ['x', 'g']) sampleNormal(name, [N, T, D])
  sampleNormal('c', [N, D])
  for (const name of ['patches', 'target']) sampleNormal(name, [N, T, 16])
  sampleNormal('frequencies', [N, 256], 0.7)
  const options = { ...ditPreset('S/2', { inputSize: 16, inChannels: 4, numClasses: 0 }), learnSigma: false }
  const model = new DiT(options, { rng: null })
  // No zeros, so that every gradient is something.
  for (const [name, { shape }] of model.stateDict()) {
    if (name === 'pos_embed') sampleNormal(name, shape, 0.5)
    else sampleNormal(name, name === 'x_embedder.proj.weight' ? [D, 16] : shape, 0.04)
  }
  model.dispose()
  writeFileSync(join(folder, 'index.json'), JSON.stringify(index))
  const file = new Float32Array(at)
  let to = 0
  for (const data of values) {
    file.set(data, to)
    to += data.length
  }
  writeFileSync(join(folder, 'values.bin'), new Uint8Array(file.buffer))
}

/** Reads the files of `writeProblem`. */
export class Problem {
  readonly #index: Index
  readonly #values: Float32Array

  constructor(folder: string) {
    this.#index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8'))
    const bytes = readFileSync(join(folder, 'values.bin'))
    this.#values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  }

  shape(name: string): number[] {
    return [...this.#index[name].shape]
  }

  /** A copy. */
  values(name: string): Float32Array {
    const { shape, at } = this.#index[name]
    return this.#values.slice(at, at + shape.reduce((a, b) => a * b, 1))
  }

  /** The parameters: of the network, or with `prefix` of a part of it. */
  weights(prefix = ''): string[] {
    const network = /^(x_embedder|t_embedder|blocks|final_layer)\./
    return Object.keys(this.#index).filter(name => network.test(name) && name.startsWith(prefix))
  }
}

/** Digest by which large results are compared: 16 elements and the root mean square. */
export function digest(y: ArrayLike<number>): number[] {
  let squares = 0
  for (let i = 0; i < y.length; i++) squares += y[i] * y[i]
  const stride = Math.floor(y.length / 16)
  return [Math.sqrt(squares / y.length), ...Array.from({ length: 16 }, (_, i) => y[i * stride + (i % stride)])]
}

/** Gradients of a block that are compared, beside its result: of the tokens, the condition and four weights. */
export const blockGradients = ['attn.qkv.weight', 'attn.proj.bias', 'mlp.fc1.weight', 'adaLN_modulation.1.weight']
