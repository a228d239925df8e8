/** onnxruntime-node on the CPU, which has no gradients: ops and the forward pass. `onnx.ts FOLDER THREADS`. */

import { readFileSync } from 'node:fs'
import * as ort from 'onnxruntime-node'
import { OnnxModel } from './onnx-model.ts'
import { digest, type Problem } from './problem.ts'
import { serve, type Work } from './serve.ts'

const threads = Number(process.argv[3])

async function workOf(problem: Problem, model: Uint8Array, inputs: readonly string[]): Promise<Work> {
  const session = await ort.InferenceSession.create(model, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  })
  const feeds = Object.fromEntries(
    inputs.map(name => [name, new ort.Tensor('float32', problem.values(name), problem.shape(name))]),
  )
  return {
    run: async () => {
      await session.run(feeds)
      return undefined
    },
    check: async () => {
      const results = await session.run(feeds)
      return digest((await results[session.outputNames[0]].getData()) as Float32Array)
    },
  }
}

const op = (inputs: readonly string[], build: (m: OnnxModel, ...x: string[]) => string) => (problem: Problem) => {
  const model = new OnnxModel()
  const names = inputs.map(name => model.input(name, problem.shape(name)))
  return workOf(problem, model.finish(build(model, ...names), problem.shape(inputs[0])), inputs)
}

const [N, T, D] = [8, 64, 384]

/** DiT-S/2 forward as nodes. */
function network(m: OnnxModel, problem: Problem, patches: string, frequencies: string): string {
  const weight = (name: string) => m.constant(problem.values(name), problem.shape(name))
  const linear = (name: string, x: string) => {
    const [outer, inner] = problem.shape(`${name}.weight`)
    const [w, transposed] = [problem.values(`${name}.weight`), new Float32Array(outer * inner)]
    for (let o = 0; o < outer; o++) for (let i = 0; i < inner; i++) transposed[i * outer + o] = w[o * inner + i]
    return m.node('Add', [m.node('MatMul', [x, m.constant(transposed, [inner, outer])]), weight(`${name}.bias`)])
  }
  const one = m.constant(Float32Array.of(1), [1])
  const ones = m.constant(new Float32Array(D).fill(1), [D])
  const root = m.constant(Float32Array.of(Math.sqrt(6 / D)), [1])
  const silu = (x: string) => m.node('Mul', [x, m.node('Sigmoid', [x])])
  const modulate = (x: string, shift: string, scale: string) => {
    const norm = m.node('LayerNormalization', [x, ones], { axis: -1, epsilon: 1e-6 })
    return m.node('Add', [m.node('Mul', [norm, m.node('Add', [scale, one])]), shift])
  }
  const vectors = (name: string, c: string, count: number) => {
    const all = m.node('Reshape', [linear(name, silu(c)), m.integers(N, 1, count * D)])
    return m.nodes('Split', [all], count, { axis: -1, num_outputs: count })
  }
  const c = linear('t_embedder.mlp.2', silu(linear('t_embedder.mlp.0', frequencies)))
  let x = m.node('Add', [linear('x_embedder.proj', patches), weight('pos_embed')])
  for (let i = 0; i < 12; i++) {
    const p = `blocks.${i}.`
    const [shift1, scale1, gate1, shift2, scale2, gate2] = vectors(`${p}adaLN_modulation.1`, c, 6)
    const qkv = m.nodes('Split', [linear(`${p}attn.qkv`, modulate(x, shift1, scale1))], 3, { axis: -1, num_outputs: 3 })
    const heads = qkv.map(z => m.node('Reshape', [z, m.integers(N, T, 6, D / 6)]))
    const q = m.node('Transpose', [heads[0]], { perm: [0, 2, 1, 3] })
    const k = m.node('Transpose', [heads[1]], { perm: [0, 2, 3, 1] })
    const v = m.node('Transpose', [heads[2]], { perm: [0, 2, 1, 3] })
    const weights = m.node('Softmax', [m.node('Mul', [m.node('MatMul', [q, k]), root])], { axis: -1 })
    const attended = m.node('Transpose', [m.node('MatMul', [weights, v])], { perm: [0, 2, 1, 3] })
    const joined = m.node('Reshape', [attended, m.integers(N, T, D)])
    const y = m.node('Add', [x, m.node('Mul', [gate1, linear(`${p}attn.proj`, joined)])])
    const hidden = m.node('Gelu', [linear(`${p}mlp.fc1`, modulate(y, shift2, scale2))], { approximate: 'tanh' })
    x = m.node('Add', [y, m.node('Mul', [gate2, linear(`${p}mlp.fc2`, hidden)])])
  }
  const [shift, scale] = vectors('final_layer.adaLN_modulation.1', c, 2)
  return linear('final_layer.linear', modulate(x, shift, scale))
}

function forward(problem: Problem): Promise<Work> {
  const model = new OnnxModel()
  const inputs = ['patches', 'frequencies']
  const [patches, frequencies] = inputs.map(name => model.input(name, problem.shape(name)))
  return workOf(problem, model.finish(network(model, problem, patches, frequencies), problem.shape('patches')), inputs)
}

const manifest = new URL('node_modules/onnxruntime-node/package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(manifest, 'utf8'))
const noGradients = 'onnxruntime-node computes no gradients'

await serve(
  `onnxruntime-node ${version}`,
  {
    matmul: op(['a', 'b'], (m, a, b) => m.node('MatMul', [a, b])),
    layerNorm: op(['rows'], (m, x) =>
      m.node('LayerNormalization', [x, m.constant(new Float32Array(D).fill(1), [D])], { axis: -1, epsilon: 1e-6 }),
    ),
    softmax: op(['scores'], (m, x) => m.node('Softmax', [x], { axis: -1 })),
    gelu: op(['wide'], (m, x) => m.node('Gelu', [x], { approximate: 'tanh' })),
    forward,
  },
  { block: noGradients, step: noGradients },
)
