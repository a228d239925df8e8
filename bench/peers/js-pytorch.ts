/**
 * js-pytorch on its CPU device; its GPU device needs a native module that is not built without install scripts. A step of
 * twelve blocks would take minutes, so the block stands for it. Its broadcasting adds axes in front only, so tokens are
 * (T, N, D) here: a vector per picture, (N, D), fits that. `js-pytorch.ts FOLDER`.
 */

import { readFileSync } from 'node:fs'
import { torch } from 'js-pytorch'
import { blockGradients, digest, type Problem } from './problem.ts'
import { serve, type Work } from './serve.ts'

type T = ReturnType<typeof torch.tensor>
type Nested = number[] | Nested[]

function nested(values: Float32Array, shape: readonly number[]): Nested {
  if (shape.length === 1) return Array.from(values)
  const size = values.length / shape[0]
  return Array.from({ length: shape[0] }, (_, i) => nested(values.subarray(i * size, (i + 1) * size), shape.slice(1)))
}

const given = (problem: Problem, name: string, grad = false): T =>
  torch.tensor(nested(problem.values(name), problem.shape(name)), grad)
const flat = (data: unknown): number[] => (data as number[]).flat(Number.POSITIVE_INFINITY as 1)
const work = (run: () => T): Work => ({
  run: () => void run() as undefined,
  check: () => digest(flat(run()._data)),
})

const { add, mul, div, exp, matmul, mean, reshape, sqrt, transpose } = torch
const shifted = (x: T, by: T): T => add(x, mul(by, -1))

function layerNorm(x: T): T {
  const centred = shifted(x, mean(x, -1, true))
  return div(centred, sqrt(add(mean(mul(centred, centred), -1, true), 1e-6)))
}

/** tanh u = 1 − 2 / (1 + exp 2u) */
function gelu(x: T): T {
  const inner = mul(add(x, mul(mul(mul(x, x), x), 0.044715)), 2 * Math.sqrt(2 / Math.PI))
  const half = div(torch.ones(inner.shape), add(exp(inner), 1)) // (1 − tanh u) / 2
  return mul(x, add(mul(half, -1), 1))
}

const silu = (x: T): T => div(x, add(exp(mul(x, -1)), 1))
const softmax = (x: T): T => {
  const powers = exp(x)
  return div(powers, powers.sum(-1, true))
}

const [N, D, H] = [8, 384, 6]
const rows = 64

/** The first axis, of size `first`, and the second one changed over, in values of (…, …, D). */
function swap(values: ArrayLike<number>, first: number): Float32Array {
  const [out, second] = [new Float32Array(values.length), values.length / D / first]
  for (let i = 0; i < first; i++)
    for (let j = 0; j < second; j++)
      for (let k = 0; k < D; k++) out[(j * first + i) * D + k] = values[(i * second + j) * D + k]
  return out
}

/** A weight (outer, inner) as `parts` weights (inner, outer / parts), which is how this library multiplies. */
function parts(problem: Problem, name: string, count: number): { w: T[]; b: T[] } {
  const [outer, inner] = problem.shape(`${name}.weight`)
  const [values, bias] = [problem.values(`${name}.weight`), problem.values(`${name}.bias`)]
  const size = outer / count
  const w = Array.from({ length: count }, (_, p) =>
    torch.tensor(
      Array.from({ length: inner }, (_, i) =>
        Array.from({ length: size }, (_, o) => values[(p * size + o) * inner + i]),
      ),
      true,
    ),
  )
  const b = Array.from({ length: count }, (_, p) =>
    torch.tensor(Array.from(bias.subarray(p * size, (p + 1) * size)), true),
  )
  return { w, b }
}

function block(problem: Problem): Work {
  const names = { 'attn.qkv': 3, 'attn.proj': 1, 'mlp.fc1': 1, 'mlp.fc2': 1, 'adaLN_modulation.1': 6 } as const
  const layers = Object.fromEntries(
    Object.entries(names).map(([name, count]) => [name, parts(problem, `blocks.0.${name}`, count)]),
  )
  const tokens = (name: string, grad: boolean): T =>
    torch.tensor(nested(swap(problem.values(name), N), [rows, N, D]), grad)
  const [x, c, g] = [tokens('x', true), given(problem, 'c', true), tokens('g', false)]
  const linear = (name: string, z: T, part = 0): T => add(matmul(z, layers[name].w[part]), layers[name].b[part])
  const modulate = (z: T, shift: T, scale: T): T => add(mul(layerNorm(z), add(scale, 1)), shift)
  const heads = (z: T): T => transpose(transpose(reshape(z, [rows, N, H, D / H]), 0, 1), 1, 2) // (N, H, T, d)
  const forward = (): T => {
    const s = silu(c)
    const [shift1, scale1, gate1, shift2, scale2, gate2] = [0, 1, 2, 3, 4, 5].map(i =>
      linear('adaLN_modulation.1', s, i),
    )
    const h = modulate(x, shift1, scale1)
    const [q, k, v] = [0, 1, 2].map(i => heads(linear('attn.qkv', h, i)))
    const weights = softmax(mul(matmul(q, transpose(k, -2, -1)), Math.sqrt(H / D)))
    const joined = reshape(transpose(transpose(matmul(weights, v), 1, 2), 0, 1), [rows, N, D])
    const y = add(x, mul(gate1, linear('attn.proj', joined)))
    return add(y, mul(gate2, linear('mlp.fc2', gelu(linear('mlp.fc1', modulate(y, shift2, scale2))))))
  }
  const leaves = [x, c, ...Object.values(layers).flatMap(({ w, b }) => [...w, ...b])]
  const pass = (): T => {
    for (const leaf of leaves) leaf.zero_grad()
    const y = forward()
    mul(y, g).sum().backward()
    return y
  }
  const gradient = (name: string): number[] => {
    const [layer, kind] = [name.replace(/\.\w+$/, ''), name.endsWith('weight') ? 'w' : 'b']
    return layers[layer][kind].flatMap((z: T) => {
      const values = flat(z._grad?._data ?? (z.grad as unknown))
      if (kind === 'b') return values
      const [inner, outer] = z.shape
      return Array.from({ length: values.length }, (_, i) => values[(i % inner) * outer + Math.floor(i / inner)])
    })
  }
  return {
    run: () => void pass() as undefined,
    check: () => {
      const y = pass()
      const of = (z: T) => flat(z._grad?._data ?? z.grad)
      return [swap(flat(y._data), rows), swap(of(x), rows), of(c), ...blockGradients.map(gradient)].flatMap(digest)
    },
  }
}

const manifest = new URL('node_modules/js-pytorch/package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(manifest, 'utf8'))
const minutes = 'twelve blocks and AdamW would take minutes a step; the block stands for it'

await serve(
  `js-pytorch ${version} (cpu)`,
  {
    matmul: problem => {
      const [a, b] = [given(problem, 'a'), given(problem, 'b')]
      return work(() => matmul(a, b))
    },
    layerNorm: problem => {
      const x = given(problem, 'rows')
      return work(() => layerNorm(x))
    },
    softmax: problem => {
      const x = given(problem, 'scores')
      return work(() => softmax(x))
    },
    gelu: problem => {
      const x = given(problem, 'wide')
      return work(() => gelu(x))
    },
    block,
  },
  { step: minutes, forward: minutes },
)
