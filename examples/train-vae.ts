/**
 * Trains the autoencoder between pictures and latents [LDM §3.1], the first of two stages: transformers are then trained
 * on its latents (the command encode-latents, train-mdt-s.ts --latents). The error of a reconstruction is measured in
 * absolute values, L1, as LDM does: squares would rather blur an edge than put it a pixel off. Run: npx tsx
 * examples/train-vae.ts (--help lists the flags). Leaves out LDM's perceptual and adversarial losses, which need networks
 * of their own. Before: train-mdt-s.ts, which has the parts around the loop in common and fuller comments. Settings are
 * in vae-settings.ts. Next: models/autoencoder-kl.ts.
 */

import { join } from 'node:path'
import { repeated, resumed } from '../cli/flags.ts'
import { runInChild } from '../cli/run-in-child.ts'
import { add, backward, l1, mean, mul, type Rng, ready, rng, scope, stack, type Tensor, tensor } from '../core/index.ts'
import { type Batch, Batches, openDataset } from '../data/index.ts'
import { AutoencoderKL } from '../models/index.ts'
import { AdamW, constant, Ema, warmUp, warmUpDecay } from '../nn/index.ts'
import * as training from '../training/index.ts'
import { scalingFactorOf, writeReconstructions } from '../training/vae-pictures.ts'
import { command, type Described, modelOptions, program, settingsOf, trainingFlags } from '../training/vae-settings.ts'
import { saveVae, vaeFile } from '../training/vae-weights.ts'

await runInChild(async () => {
  const flags = trainingFlags()
  const { out, steps, minutes = Infinity } = flags
  const from = training.startingPoint(out, flags.resume)
  const before = training.saidBefore<Described>(out, from, { resume: flags.resume, program })
  const settings = settingsOf(flags, before?.settings)
  const { preset, batch, seed, klWeight } = settings

  const backend = await ready(flags)
  const data = await openDataset(settings.data, settings.size, flags)
  const random = rng(seed)
  const options = modelOptions(settings, data)
  const described: Described = { program, settings, pictures: data.length, model: options }
  const otherPictures = training.otherPictures(out, before, described)
  const model = new AutoencoderKL(options, { rng: random.fork('weights') })
  const ema = new Ema(model, new AutoencoderKL(options, { rng: null }), { decay: warmUpDecay(settings.emaDecay) })
  const optimizer = new AdamW(model.namedParameters(), settings)
  const schedule = warmUp(settings.warmUpSteps, constant(settings.lr))
  const batches = new Batches(data, { batch, rng: random.fork('pictures'), replacement: true })
  const guard = new training.StepGuard(out, model, settings)
  const state = { model, ema, optimizer, guard }
  if (from !== undefined) training.restore(from, state)
  const first = from?.step ?? 0
  let step = first

  /** Forward and backward over a batch: error of a value, and divergence of a picture's latents in nats; means over N. */
  function pass({ images }: Batch, draw: Rng): Tensor[] {
    const { channels: C, size: S } = data
    const x = tensor(images, { shape: [batch, C, S, S] }) // (N, C, H, W)
    const { loss, error, kl } = scope(() => {
      const posterior = model.encode(x)
      const z = posterior.sample(draw.normal(posterior.mean.shape)) // (N, latents, h, w)
      const error = l1(model.decode(z), x)
      const kl = mean(posterior.kl())
      // Σ|x − x̂| + λ KL, for each of a picture's values. [LDM eq. 25]
      return { loss: add(error, mul(kl, klWeight / (C * S * S))), error: error.detach(), kl: kl.detach() }
    })
    backward(loss)
    return [loss.detach(), error, kl]
  }

  const what = `AutoencoderKL-${preset} on the ${data.length} pictures of ${data.name} at ${data.size} px`
  const size = `${(model.countParameters().total / 1e6).toFixed(1)} M parameters`
  const side = data.size / model.downsampling
  console.log(`${what}: ${size}, batch ${batch}, ${training.arithmetic(backend)}`)
  for (const other of [training.otherArithmetic(before, backend), otherPictures]) if (other !== null) console.log(other)
  console.log(`${options.latentChannels} × ${side} × ${side} latents a picture; see ${out} for what they keep of it`)
  const resume = resumed(command, out, steps)
  if (before === undefined)
    training.writeRunReadme(out, {
      title: what,
      command: repeated(command),
      resume,
      described,
      pictures: 'pictures, each with what the averaged weights reconstruct of it to its right',
      also: [[vaeFile, 'the averaged weights of the last checkpoint, and in its metadata what they are of']],
    })
  const log = new training.MetricsLog(out, step)
  const progress = new training.Progress({ total: steps, done: step, minutes })
  const interrupt = new training.Interrupt(() => progress.log('saving after this step; Ctrl-C again stops without'))
  const stop = () => interrupt.asked()
  const end = performance.now() + 60_000 * minutes
  let checkpoint = from?.path

  try {
    while (step < steps && performance.now() < end && !(await stop())) {
      const start = performance.now()
      const pictures = await batches.at(step)
      const draw = () => random.fork('step').fork(step)
      const lr = schedule(step + 1)
      const report = scope(() => {
        const terms = pass(pictures, draw())
        const { norm, finite } = optimizer.step({ lr, maxNorm: settings.maxNorm ?? undefined, losses: terms })
        ema.update(finite)
        optimizer.zeroGrad()
        return stack([...terms, norm, finite], 0)
      })
      const [loss, error, kl, gradNorm, finite] = await report.data()
      report.dispose()
      const replay = () => pass(pictures, draw())
      const acted = await guard.judge({ step: step + 1, gradNorm, finite, replay }, progress)

      step++
      const seconds = (performance.now() - start) / 1000
      log.write({ step, loss, error, kl, gradNorm, lr, ...acted }, { step, seconds, time: Date.now() / 1000 })
      progress.update(step, loss, batch)
      if (step === first + 2) progress.log(`${seconds.toFixed(2)} s a step`)
      if (step % (step < 500 ? 50 : 250) === 0 && step < steps) await keep()
    }
  } finally {
    progress.close()
  }
  if (step > first || !training.isKept(out, step)) await keep()
  interrupt.close()
  log.close()
  console.log(`${checkpoint ?? out} after step ${step}${step < steps ? `; go on with: ${resume}` : ''}`)
  console.log(`its latents: ${join(out, vaeFile)}`)

  /** Checkpoint, loss curve, the weights by themselves, reconstructions; these are left out where Ctrl-C is waiting. */
  async function keep(): Promise<void> {
    const at = { step, backend: training.arithmetic(backend), ...described }
    checkpoint = await training.keep(out, log, state, at, ['error'], async path => {
      await saveVae(join(out, vaeFile), ema.average, await scalingFactorOf(ema.average, data), data.size)
      const ratio = await writeReconstructions(path, ema.average, data, 48, stop)
      if (ratio !== null) progress.log(`step ${step}: reconstructions at ${ratio.toFixed(1)} dB`)
    })
    progress.pause()
  }
})
