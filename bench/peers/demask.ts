/** demask's own side. `demask.ts FOLDER THREADS`. */

import { readFileSync } from 'node:fs'
import {
  add,
  backward,
  geluTanh,
  layerNorm,
  matmul,
  mse,
  noGrad,
  ready,
  reshape,
  scope,
  softmax,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { DiT, DiTBlock, ditPreset } from '../../models/index.ts'
import { AdamW } from '../../nn/index.ts'
import { arithmetic } from '../../training/index.ts'
import { blockGradients, digest, type Problem } from './problem.ts'
import { serve, type Work } from './serve.ts'

const threads = Number(process.argv[3])
const backend = await ready({ backend: 'wasm', threads })
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

const given = (problem: Problem, name: string) => tensor(problem.values(name), { shape: problem.shape(name) })

const op = (input: string, compute: (x: Tensor, problem: Problem) => Tensor) => (problem: Problem) => {
  const x = given(problem, input)
  return {
    run: () => scope(() => void compute(x, problem)) as undefined,
    check: () => scope(() => digest(compute(x, problem).dataSync())),
  }
}

function product(problem: Problem): Work {
  const [a, b] = [given(problem, 'a'), given(problem, 'b')]
  return {
    run: () => scope(() => void matmul(a, b)) as undefined,
    check: () => scope(() => digest(matmul(a, b).dataSync())),
  }
}

function block(problem: Problem): Work {
  const module = new DiTBlock({ hiddenSize: 384, numHeads: 6 }, { rng: null })
  const prefix = 'blocks.0.'
  module.loadStateDict(
    new Map(problem.weights(prefix).map(name => [name.slice(prefix.length), given(problem, name)] as const)),
  )
  const [x, c] = [given(problem, 'x').requireGrad(), given(problem, 'c').requireGrad()]
  const g = given(problem, 'g')
  const leaves = [x, c, ...module.parameters()]
  const state = module.stateDict()
  const pass = <R>(see: (y: Tensor) => R): R =>
    scope(() => {
      const y = module.forward(x, c)
      backward(y, g)
      const seen = see(y)
      for (const leaf of leaves) {
        leaf.grad!.dispose()
        leaf.grad = null
      }
      return seen
    })
  return {
    run: () => pass(() => undefined),
    check: () =>
      pass(y =>
        [y, x.grad!, c.grad!, ...blockGradients.map(name => state.get(name)!.grad!)].flatMap(z => digest(z.dataSync())),
      ),
  }
}

function network(problem: Problem): { model: DiT; forward(): Tensor } {
  const options = { ...ditPreset('S/2', { inputSize: 16, inChannels: 4, numClasses: 0 }), learnSigma: false }
  const model = new DiT(options, { rng: null })
  const state = model.stateDict()
  const weights = [...state.keys()].map(
    name => [name, tensor(problem.values(name), { shape: state.get(name)!.shape })] as const,
  )
  model.loadStateDict(new Map(weights))
  const [patches, frequencies] = [given(problem, 'patches'), given(problem, 'frequencies')]
  const forward = () => {
    const c = model.t_embedder.mlp.forward(frequencies)
    let tokens = add(model.x_embedder.project(patches), model.pos_embed)
    for (const each of model.blocks) tokens = each.forward(tokens, c)
    return reshape(model.final_layer.forward(tokens, c), patches.shape)
  }
  return { model, forward }
}

function step(problem: Problem): Work {
  const { model, forward } = network(problem)
  const target = given(problem, 'target')
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 })
  const run = () =>
    scope(() => {
      const loss = mse(forward(), target)
      const value = loss.dataSync()[0]
      backward(loss)
      optimizer.step()
      optimizer.zeroGrad()
      return value
    })
  return { run, check: () => [run()] }
}

function forwardOnly(problem: Problem): Work {
  const { forward } = network(problem)
  return {
    run: () => scope(() => noGrad(() => void forward())) as undefined,
    check: () => scope(() => noGrad(() => digest(forward().dataSync()))),
  }
}

await serve(`demask ${version} (${arithmetic(backend)})`, {
  matmul: product,
  layerNorm: op('rows', x => layerNorm(x, null, null, 1e-6)),
  softmax: op('scores', x => softmax(x)),
  gelu: op('wide', x => geluTanh(x)),
  block,
  step,
  forward: forwardOnly,
})
