/**
 * TensorFlow.js on its wasm backend, which has one thread in Node. `tfjs.ts FOLDER [tuned]`: tuned gives products a
 * gradient of ours that transposes first, since its transposed products are some twenty times slower than its plain ones.
 */

import { fileURLToPath } from 'node:url'
import * as tf from '@tensorflow/tfjs'
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import { blockGradients, digest, type Problem } from './problem.ts'
import { serve, type Work } from './serve.ts'

const tuned = process.argv[3] === 'tuned'
setWasmPaths(fileURLToPath(new URL('node_modules/@tensorflow/tfjs-backend-wasm/dist/', import.meta.url)))
await tf.setBackend('wasm')
await tf.ready()

type T = tf.Tensor
type Weights = Readonly<Record<string, tf.Variable>>

const given = (problem: Problem, name: string) => tf.tensor(problem.values(name), problem.shape(name))
const weightsOf = (problem: Problem, prefix = ''): Weights =>
  Object.fromEntries(problem.weights(prefix).map(name => [name, tf.variable(given(problem, name), true)]))

/** a b, of matrices or batches of them, with explicit transposes in its gradient. */
const plainProduct = tf.customGrad((a, b, save) => {
  const [x, y] = [a as T, b as T]
  ;(save as (tensors: T[]) => void)([x, y])
  const flip = (z: T) => tf.transpose(z, [...z.shape.slice(0, -2).keys(), z.rank - 1, z.rank - 2])
  return {
    value: tf.matMul(x, y),
    gradFunc: (dy: T, saved: T[]) => [tf.matMul(dy, flip(saved[1])), tf.matMul(flip(saved[0]), dy)],
  }
})
const transposed = (z: T) => tf.transpose(z, [...z.shape.slice(0, -2).keys(), z.rank - 1, z.rank - 2])
const timesTransposed = (a: T, b: T): T => (tuned ? plainProduct(a, transposed(b)) : tf.matMul(a, b, false, true))
const times = (a: T, b: T): T => (tuned ? plainProduct(a, b) : tf.matMul(a, b))

function linear(w: Weights, name: string, x: T): T {
  const D = x.shape.at(-1)!
  const y = timesTransposed(tf.reshape(x, [-1, D]), w[`${name}.weight`])
  return tf.reshape(tf.add(y, w[`${name}.bias`]), [...x.shape.slice(0, -1), y.shape[1]!])
}

function layerNorm(x: T): T {
  const { mean, variance } = tf.moments(x, -1, true)
  return tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-6)))
}

function gelu(x: T): T {
  const inner = tf.mul(Math.sqrt(2 / Math.PI), tf.add(x, tf.mul(0.044715, tf.mul(x, tf.mul(x, x)))))
  return tf.mul(tf.mul(0.5, x), tf.add(1, tf.tanh(inner)))
}

const silu = (x: T): T => tf.mul(x, tf.sigmoid(x))
const modulate = (x: T, shift: T, scale: T): T => tf.add(tf.mul(layerNorm(x), tf.add(1, scale)), shift)

function block(w: Weights, p: string, x: T, c: T): T {
  const [N, T, D] = x.shape
  const vectors = tf.split(tf.expandDims(linear(w, `${p}adaLN_modulation.1`, silu(c)), 1), 6, -1)
  const [shift1, scale1, gate1, shift2, scale2, gate2] = vectors
  const qkv = linear(w, `${p}attn.qkv`, modulate(x, shift1, scale1))
  const heads = tf.transpose(tf.reshape(qkv, [N, T, 3, 6, D / 6]), [2, 0, 3, 1, 4])
  const [q, k, v] = tf.unstack(heads)
  const attended = times(tf.softmax(tf.mul(timesTransposed(q, k), Math.sqrt(6 / D))), v)
  const joined = tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), [N, T, D])
  const y = tf.add(x, tf.mul(gate1, linear(w, `${p}attn.proj`, joined)))
  const hidden = gelu(linear(w, `${p}mlp.fc1`, modulate(y, shift2, scale2)))
  return tf.add(y, tf.mul(gate2, linear(w, `${p}mlp.fc2`, hidden)))
}

const op = (inputs: readonly string[], compute: (...x: T[]) => T) => (problem: Problem) => {
  const x = inputs.map(name => given(problem, name))
  return {
    run: () => void tf.tidy(() => void compute(...x)) as undefined,
    check: () => tf.tidy(() => digest(compute(...x).dataSync())),
  }
}

function blockWork(problem: Problem): Work {
  const w = weightsOf(problem, 'blocks.0.')
  const [x, c] = ['x', 'c'].map(name => tf.variable(given(problem, name), true))
  const g = given(problem, 'g')
  const pass = (check: boolean): number[] =>
    tf.tidy(() => {
      let y: T | undefined
      const { grads } = tf.variableGrads(() => {
        y = tf.keep(block(w, 'blocks.0.', x, c))
        return tf.sum(tf.mul(y, g)) as tf.Scalar
      })
      const of = (z: tf.Variable) => grads[z.name]
      const seen = check ? [y!, of(x), of(c), ...blockGradients.map(name => of(w[`blocks.0.${name}`]))] : []
      const values = seen.flatMap(z => digest(z.dataSync()))
      y!.dispose()
      return values
    })
  return { run: () => void pass(false) as undefined, check: () => pass(true) }
}

function network(problem: Problem): { w: Weights; forward(): T } {
  const w = weightsOf(problem)
  const [patches, frequencies, positions] = ['patches', 'frequencies', 'pos_embed'].map(name => given(problem, name))
  const forward = () => {
    const c = linear(w, 't_embedder.mlp.2', silu(linear(w, 't_embedder.mlp.0', frequencies)))
    let x: T = tf.add(linear(w, 'x_embedder.proj', patches), positions)
    for (let i = 0; i < 12; i++) x = block(w, `blocks.${i}.`, x, c)
    const [shift, scale] = tf.split(tf.expandDims(linear(w, 'final_layer.adaLN_modulation.1', silu(c)), 1), 2, -1)
    return linear(w, 'final_layer.linear', modulate(x, shift, scale))
  }
  return { w, forward }
}

function step(problem: Problem): Work {
  const { w, forward } = network(problem)
  const target = given(problem, 'target')
  const [lr, decay] = [1e-4, 0.01]
  const adam = tf.train.adam(lr, 0.9, 0.999, 1e-8)
  const run = () =>
    tf.tidy(() => {
      const { value, grads } = tf.variableGrads(() => tf.mean(tf.squaredDifference(forward(), target)) as tf.Scalar)
      // AdamW's decay; the rest of it is Adam.
      for (const variable of Object.values(w)) variable.assign(tf.mul(variable, 1 - lr * decay))
      adam.applyGradients(grads)
      return value.dataSync()[0]
    })
  return { run, check: () => [run()] }
}

function forwardOnly(problem: Problem): Work {
  const { forward } = network(problem)
  return {
    run: () => void tf.tidy(() => void forward()) as undefined,
    check: () => tf.tidy(() => digest(forward().dataSync())),
  }
}

await serve(`tfjs ${tf.version.tfjs} (wasm, ${tuned ? 'tuned gradient' : 'as shipped'})`, {
  matmul: op(['a', 'b'], (a, b) => tf.matMul(a, b)),
  layerNorm: op(['rows'], layerNorm),
  softmax: op(['scores'], x => tf.softmax(x)),
  gelu: op(['wide'], gelu),
  block: blockWork,
  step,
  forward: forwardOnly,
})
