/** jax-js on its wasm backend, which has one thread in Node; all works are jitted, AdamW is written out. `jax.ts FOLDER`. */

import { readFileSync } from 'node:fs'
import { blockUntilReady, defaultDevice, init, jit, nn, numpy as np, valueAndGrad, vjp } from '@jax-js/jax'
import { blockGradients, digest, type Problem } from './problem.ts'
import { serve, type Work } from './serve.ts'

// A value that is used n times is passed as .ref n − 1 times: arrays count their references.
type A = np.Array
type Tree = Record<string, A>

await init('wasm')
defaultDevice('wasm')

const given = (problem: Problem, name: string) => np.array(problem.values(name), { shape: problem.shape(name) })
const weightsOf = (problem: Problem, prefix = ''): Tree =>
  Object.fromEntries(problem.weights(prefix).map(name => [name, given(problem, name)]))
const held = (tree: Tree): Tree => Object.fromEntries(Object.entries(tree).map(([name, x]) => [name, x.ref]))

/** x (…, D) is consumed, the weights are not. */
const linear = (w: Tree, name: string, x: A): A =>
  np.matmul(x, np.transpose(w[`${name}.weight`].ref)).add(w[`${name}.bias`].ref)

function layerNorm(x: A): A {
  const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }))
  const variance = np.mean(centred.ref.mul(centred.ref), -1, { keepdims: true })
  return centred.div(np.sqrt(variance.add(1e-6)))
}

const modulate = (x: A, shift: A, scale: A): A => layerNorm(x).mul(scale.add(1)).add(shift)

function gelu(x: A): A {
  const inner = x.ref.add(x.ref.mul(x.ref).mul(x.ref).mul(0.044715)).mul(Math.sqrt(2 / Math.PI))
  return x.mul(0.5).mul(np.tanh(inner).add(1))
}

function block(w: Tree, p: string, x: A, c: A): A {
  const [N, T, D] = x.shape
  const vectors = linear(w, `${p}adaLN_modulation.1`, nn.silu(c)).reshape([N, 1, 6 * D])
  const [shift1, scale1, gate1, shift2, scale2, gate2] = np.split(vectors, 6, -1)
  const qkv = linear(w, `${p}attn.qkv`, modulate(x.ref, shift1, scale1)).reshape([N, T, 3, 6, D / 6])
  const heads = np.transpose(qkv, [2, 0, 3, 1, 4])
  const [q, k, v] = np.split(heads, 3, 0).map(z => z.reshape([N, 6, T, D / 6]))
  const scores = np.matmul(q, np.transpose(k, [0, 1, 3, 2])).mul(Math.sqrt(6 / D))
  const attended = np.matmul(nn.softmax(scores, -1), v)
  const joined = np.transpose(attended, [0, 2, 1, 3]).reshape([N, T, D])
  const y = x.add(gate1.mul(linear(w, `${p}attn.proj`, joined)))
  const hidden = gelu(linear(w, `${p}mlp.fc1`, modulate(y.ref, shift2, scale2)))
  return y.add(gate2.mul(linear(w, `${p}mlp.fc2`, hidden)))
}

/** Waits for the results and releases them. */
async function finish(results: readonly A[]): Promise<undefined> {
  for (const x of results) await blockUntilReady(x)
  for (const x of results) x.dispose()
}

const op = (inputs: readonly string[], compute: (...x: A[]) => A) => (problem: Problem) => {
  const x = inputs.map(name => given(problem, name))
  const compiled = jit(compute)
  const call = () => compiled(...x.map(each => each.ref)) as A
  return { run: () => finish([call()]), check: async () => digest(await call().data()) }
}

function blockWork(problem: Problem): Work {
  const w = weightsOf(problem, 'blocks.0.')
  const [x, c, g] = ['x', 'c', 'g'].map(name => given(problem, name))
  const pass = jit((w: Tree, x: A, c: A, g: A) => {
    const [y, pull] = vjp((w: Tree, x: A, c: A) => block(w, 'blocks.0.', x, c), [w, x, c])
    const [gw, gx, gc] = pull(g) as unknown as [Tree, A, A]
    pull.dispose()
    return { y, gw, gx, gc }
  })
  const call = () => pass(held(w), x.ref, c.ref, g.ref) as { y: A; gw: Tree; gx: A; gc: A }
  return {
    run: () => {
      const { y, gw, gx, gc } = call()
      return finish([y, gx, gc, ...Object.values(gw)])
    },
    check: async () => {
      const { y, gw, gx, gc } = call()
      const values: number[] = []
      for (const z of [y, gx, gc, ...blockGradients.map(name => gw[`blocks.0.${name}`].ref)])
        values.push(...digest(await z.data()))
      for (const z of Object.values(gw)) z.dispose()
      return values
    },
  }
}

type Data = { patches: A; frequencies: A; positions: A }

function forward(w: Tree, { patches, frequencies, positions }: Data): A {
  const c = linear(w, 't_embedder.mlp.2', nn.silu(linear(w, 't_embedder.mlp.0', frequencies)))
  let x = linear(w, 'x_embedder.proj', patches).add(positions)
  for (let i = 0; i < 12; i++) x = block(w, `blocks.${i}.`, x, c.ref)
  const vectors = linear(w, 'final_layer.adaLN_modulation.1', nn.silu(c))
  const [shift, scale] = np.split(vectors.reshape([x.shape[0], 1, 2 * 384]), 2, -1)
  return linear(w, 'final_layer.linear', modulate(x, shift, scale))
}

const dataOf = (problem: Problem): Data => ({
  patches: given(problem, 'patches'),
  frequencies: given(problem, 'frequencies'),
  positions: given(problem, 'pos_embed'),
})
const heldData = (data: Data): Data => held(data) as Data

function step(problem: Problem): Work {
  const data = dataOf(problem)
  const target = given(problem, 'target')
  const [w, m, v] = [weightsOf(problem), {} as Tree, {} as Tree]
  for (const [name, x] of Object.entries(w)) {
    m[name] = np.zeros(x.shape)
    v[name] = np.zeros(x.shape)
  }
  const loss = (w: Tree, data: Data, target: A): A => {
    const apart = forward(w, data).sub(target)
    return np.mean(apart.ref.mul(apart))
  }
  const gradients = jit((w: Tree, data: Data, target: A) => valueAndGrad(loss)(w, data, target))
  const [lr, decay, beta1, beta2, eps] = [1e-4, 0.01, 0.9, 0.999, 1e-8]
  const update = jit((w: A, g: A, m: A, v: A, correction1: A, correction2: A) => {
    const m1 = m.mul(beta1).add(g.ref.mul(1 - beta1))
    const v1 = v.mul(beta2).add(g.ref.mul(g).mul(1 - beta2))
    const denominator = np.sqrt(v1.ref.div(correction2)).add(eps)
    const w1 = w.mul(1 - lr * decay).sub(m1.ref.div(correction1).mul(lr).div(denominator))
    return [w1, m1, v1]
  })
  let t = 0
  const run = async () => {
    t++
    const [value, g] = gradients(held(w), heldData(data), target.ref) as [A, Tree]
    for (const name of Object.keys(w)) {
      const corrections = [np.array(1 - beta1 ** t), np.array(1 - beta2 ** t)] as const
      ;[w[name], m[name], v[name]] = update(w[name], g[name], m[name], v[name], ...corrections) as A[]
    }
    for (const name of Object.keys(w)) await blockUntilReady(w[name])
    return (await value.data())[0]
  }
  return { run, check: async () => [await run()] }
}

function forwardOnly(problem: Problem): Work {
  const [w, data] = [weightsOf(problem), dataOf(problem)]
  const compiled = jit(forward)
  const call = () => compiled(held(w), heldData(data)) as A
  return { run: () => finish([call()]), check: async () => digest(await call().data()) }
}

const manifest = new URL('node_modules/@jax-js/jax/package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(manifest, 'utf8'))

await serve(`jax-js ${version} (wasm)`, {
  matmul: op(['a', 'b'], (a, b) => np.matmul(a, b)),
  layerNorm: op(['rows'], layerNorm),
  softmax: op(['scores'], x => nn.softmax(x, -1)),
  gelu: op(['wide'], gelu),
  block: blockWork,
  step,
  forward: forwardOnly,
})
