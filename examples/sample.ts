/**
 * Draws pictures with a trained MDT: from a run's folder, one of its checkpoints, or a file of weights under the
 * official names, from whose shapes the model is told. Run: npx tsx examples/sample.ts --help. Picture i has seed
 * `--seed` + i, and the same seed gives the same picture however many are drawn. Before: train-mdt-s.ts.
 */

import { backendNames, ready } from '../core/index.ts'
import { gaussianDiffusion, linearBetas } from '../diffusion/index.ts'
import { main, UserError, writeGrid } from '../diffusion/training/index.ts'
import { readFlags } from './flags.ts'
import { recognise } from './recognise.ts'
import { drawSamples } from './samples.ts'
import { labelOf, load, locate, openWeights } from './weights.ts'

/** Pictures drawn at a time. */
const together = 48

await main(async () => {
  const { from, weights, count, seed, out, steps, sampler, ...flags } = readFlags({
    command: 'npx tsx examples/sample.ts',
    about: 'Draws pictures with a trained MDT.',
    flags: {
      from: {
        type: 'text',
        value: 'PATH',
        default: 'runs/mdt-s-2',
        about: 'a run, a checkpoint, a .safetensors or .pt file',
      },
      weights: { type: 'text', choices: ['ema', 'model'], default: 'ema', about: 'averaged weights, or the last ones' },
      class: { type: 'text', about: 'name or number of a class (default all in turn)' },
      guidance: { type: 'number', min: 0, default: 1, about: 'classifier-free guidance: 1 is none' },
      power: { type: 'number', min: 0, about: "MDT's power-cosine guidance, with this power" },
      count: { type: 'integer', min: 1, default: 24, about: 'pictures' },
      seed: { type: 'integer', min: 0, default: 0, about: 'seed of the first picture; the next one has the next seed' },
      sampler: { type: 'text', choices: ['ddim', 'ddpm'], default: 'ddim', about: 'the sampler' },
      steps: { type: 'integer', min: 1, max: 1000, default: 25, about: 'its steps' },
      out: { type: 'text', value: 'FILE', default: 'samples.png', about: 'the grid' },
      backend: { type: 'text', choices: backendNames, about: 'where tensors live (default wasm)' },
      threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
    },
    examples: [
      ['--from runs/mdt-tiny --count 96 --out faces.png', 'a sheet of pictures'],
      ['--from runs/mdt-s-2 --class face-smiling --guidance 3 --seed 7', 'one class, more typical'],
      ['--sampler ddpm --steps 250', 'the slow sampler'],
    ],
  })
  const { path, run } = locate(from, weights)
  using file = await openWeights(path, { weights })
  const found = recognise(file.state, path)
  if (found.family !== 'MDT') throw new UserError(`${path}: wanted an MDT, got a ${found.family}`)
  const { options } = found
  const label = flags.class === undefined ? null : labelOf(flags.class, options.numClasses, run?.classes ?? [])
  if (flags.guidance !== 1 && options.numClasses === 0)
    throw new UserError(`--guidance: wanted a model with classes, got one without: ${path}`)

  await ready({ backend: backendNames.find(name => name === flags.backend), threads: flags.threads })
  const model = found.make({ rng: null })
  load(model, found.state, path)
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  const { inputSize: S, inChannels: C, numClasses } = options
  const images = new Float32Array(count * C * S * S)
  for (let start = 0; start < count; start += together) {
    const some = Array.from({ length: Math.min(together, count - start) }, (_, i) => start + i)
    const drawn = await drawSamples(model, diffusion, {
      seeds: some.map(i => seed + i),
      labels: numClasses === 0 ? null : some.map(i => label ?? i % numClasses),
      sampler: sampler === 'ddpm' ? 'ddpm' : 'ddim',
      steps,
      guidance: flags.guidance === 1 ? undefined : { scale: flags.guidance, power: flags.power },
    })
    images.set(drawn!, start * C * S * S)
  }
  await writeGrid(out, images, [count, C, S, S], { columns: Math.min(12, count), magnify: Math.ceil(48 / S) })
  console.log(`${out}: ${count} pictures of ${S} px, ${steps} steps of ${sampler.toUpperCase()}, weights of ${path}`)
})
