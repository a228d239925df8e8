/**
 * Fills in a part of a picture with a trained model, in three ways. All put what is known back at every step, noised as
 * much as the rest: `replace` does no more, `repaint` goes back up now and then [RePaint], and `mdt`, which the paper's
 * authors describe, removes the hole's tokens in the first, noisiest steps, so that the side-interpolator fills them in,
 * and is `replace` for the remaining steps. It cannot remove tokens to the end: an MDT predicts noise, and the kept tokens
 * hold no information about the noise under removed ones (docs/papers/mdt.md). Run: npx tsx examples/inpaint.ts --help.
 * The sampler is diffusion/inpainting.ts.
 */

import { readFlags } from '../cli/flags.ts'
import { holeAt, holeIn, maskOf, pictures } from '../cli/inpaint-inputs.ts'
import { labelOf } from '../cli/label.ts'
import { main } from '../cli/main.ts'
import { checkFinite, checkPicture } from '../cli/sample-output.ts'
import { backendNames, ready, rng, tensor } from '../core/index.ts'
import { inpaintSteps, type Network, repaintLevels, respace, spaceTimesteps } from '../diffusion/index.ts'
import { UserError } from '../io/user-error.ts'
import { families, recognise } from '../models/index.ts'
import { Progress, writeGrid } from '../training/index-node.ts'
import { load, openTrained } from '../training/trained-run.ts'

const methods = ['replace', 'repaint', 'mdt'] as const
type Method = (typeof methods)[number]

await main(async () => {
  const flags = readFlags({
    command: 'npx tsx examples/inpaint.ts',
    about: 'Fills in a part of pictures with a trained MDT (or DiT).',
    flags: {
      from: {
        type: 'text',
        value: 'PATH',
        default: 'runs/mdt-s-2',
        about: 'a run, a checkpoint, a .safetensors or .pt file',
      },
      weights: { type: 'text', choices: ['ema', 'model'], default: 'ema', about: 'averaged weights, or the last ones' },
      image: { type: 'text', value: 'FILE', about: 'the picture (default some of those the model was trained on)' },
      pictures: { type: 'integer', min: 1, max: 16, default: 2, about: 'how many of those' },
      hole: {
        type: 'text',
        value: 'WHERE',
        about: 'left, right, center or x,y,w,h in pixels of the model (default center)',
      },
      mask: { type: 'text', value: 'FILE', about: 'a picture that is bright where the hole is, in place of --hole' },
      method: { type: 'text', choices: [...methods, 'all'], default: 'all', about: 'how to fill it' },
      samples: { type: 'integer', min: 1, max: 16, default: 2, about: 'results of each method' },
      class: { type: 'text', about: 'name or number of the class (default that of the picture, if it is known)' },
      classes: {
        type: 'integer',
        min: 1,
        about: "how many classes the model has (default all rows of its label table but the last, which is 'no class')",
      },
      heads: { type: 'integer', min: 1, about: 'attention heads, for sizes that no preset has' },
      steps: { type: 'integer', min: 2, max: 1000, default: 25, about: 'levels of noise' },
      jump: { type: 'integer', min: 1, default: 5, about: 'repaint: how many levels a jump goes up' },
      resamplings: { type: 'integer', min: 1, default: 2, about: 'repaint: how often each level is gone through' },
      'masked-share': {
        type: 'number',
        min: 0,
        max: 1,
        default: 0.2,
        about: 'mdt: share of steps without the tokens of the hole',
      },
      seed: { type: 'integer', min: 0, default: 0, about: 'the same seed gives the same result' },
      out: { type: 'text', value: 'FILE', default: 'inpainted.png', about: 'picture, hole and results, side by side' },
      backend: { type: 'text', choices: backendNames, about: 'where tensors live (default wasm)' },
      threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
    },
    examples: [
      ['--from runs/mdt-tiny --hole right', 'the right halves of faces, in all three ways'],
      [
        '--from runs/mdt-s-2 --image face.png --hole 4,6,8,4 --method repaint --steps 100 --resamplings 10',
        'a picture of your own, with more steps',
      ],
    ],
  })
  checkPicture(flags.out)
  using file = await openTrained(flags.from, flags)
  const { path, run, told } = file
  const { heads = told.heads, classes = told.classes } = flags
  const found = recognise(file.state, path, { ...told, heads, classes })
  const { family } = found
  const { inpainting } = family.generation
  if (inpainting === undefined) {
    const names = families.filter(({ generation }) => generation.inpainting !== undefined).map(({ name }) => name)
    throw new UserError(`--from: expected one of ${names.join(', ')}, got a ${family.name}: ${path}`)
  }
  const { inputSize: S, inChannels: C, patchSize: P, numClasses } = found.options
  if (C !== 3) throw new UserError(`--from: expected a model of RGB pictures, got one of ${C} channels: ${path}`)
  const label = flags.class === undefined ? null : labelOf(flags.class, numClasses, run?.classes ?? [])
  const hole = flags.mask === undefined ? holeAt(flags.hole ?? 'center', S) : await holeIn(flags.mask, S)
  const inputs = await pictures(flags, run?.settings ?? null, S)

  await ready({ backend: backendNames.find(name => name === flags.backend), threads: flags.threads })
  const model = found.make({ rng: null })
  load(model, found.state, path)
  const masks = inpainting.maskedNetwork !== undefined
  if (!masks && flags.method === 'mdt')
    throw new UserError(`--method: expected an MDT for mdt, got a ${family.name}: ${path}`)
  const possible = methods.filter(each => each !== 'mdt' || masks)
  const chosen = flags.method === 'all' ? possible : possible.filter(each => each === flags.method)

  // One batch: every picture as often as there are results of it.
  const [M, K] = [inputs.length, flags.samples]
  const N = M * K
  const area = C * S * S
  const known = new Float32Array(N * area)
  for (let n = 0; n < N; n++) known.set(inputs[Math.floor(n / K)].pixels, n * area)
  const labels =
    numClasses === 0
      ? null
      : Int32Array.from({ length: N }, (_, n) => label ?? inputs[Math.floor(n / K)].label ?? numClasses)
  const full = inpainting.network(model, labels)
  const masked = chosen.includes('mdt') ? inpainting.maskedNetwork?.(model, labels, maskOf(hole, N, S, P)) : undefined
  const whole = inpainting.diffusion(model)
  const lastMasked = whole.steps * (1 - flags['masked-share'])
  const withoutHole: Network = (x, t) => (t[0] < lastMasked ? full(x, t) : masked!(x, t))

  const diffusion = respace(whole, spaceTimesteps(whole.steps, String(flags.steps)))
  const jumps = (method: Method) =>
    method === 'repaint' ? { jump: flags.jump, resamplings: flags.resamplings } : { resamplings: 1 }
  const steps = chosen.map(method => repaintLevels(diffusion.steps, jumps(method)).length - 1)
  const total = steps.reduce((a, b) => a + b)
  const progress = new Progress({ total })
  let done = 0
  const results: Float32Array[] = []
  try {
    for (const method of chosen) {
      const random = rng(flags.seed) // the same noise for each method
      const picture = tensor(known, { shape: [N, C, S, S] })
      const where = tensor(hole, { shape: [S, S], dtype: 'i32' })
      const options = { known: picture, hole: where, rng: random, clip: true, ...jumps(method) }
      const network = method === 'mdt' ? withoutHole : full
      progress.note(method)
      let x = random.normal([N, C, S, S])
      for (const step of inpaintSteps(diffusion, network, x, options)) {
        x.dispose()
        x = step.x.alias()
        await new Promise(resolve => setImmediate(resolve)) // lets the bar be drawn and Ctrl-C act
        progress.update(++done, null, (N * chosen.length) / total)
      }
      const values = (await x.data()) as Float32Array
      checkFinite(values, [N, C, S, S], n => `result ${(n % K) + 1} of picture ${Math.floor(n / K) + 1} by ${method}`)
      results.push(values)
    }
  } finally {
    progress.close()
  }

  const columns = 2 + chosen.length * K
  const sheet = new Float32Array(M * columns * area)
  inputs.forEach(({ pixels }, m) => {
    const row = [pixels, pixels.map((v, i) => (hole[i % (S * S)] === 1 ? 0 : v))]
    for (const result of results)
      for (let k = 0; k < K; k++) row.push(result.subarray((m * K + k) * area, (m * K + k + 1) * area))
    for (const [i, image] of row.entries()) sheet.set(image, (m * columns + i) * area)
  })
  await writeGrid(flags.out, sheet, [M * columns, C, S, S], { columns, magnify: Math.ceil(64 / S) })
  const by = chosen.map((method, i) => `${K} by ${method} (${steps[i]} steps)`).join(', ')
  console.log(`${flags.out}: ${M === 1 ? 'the picture' : `${M} pictures`}, hole in grey, ${by}; weights of ${path}`)
})
