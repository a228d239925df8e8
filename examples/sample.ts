/**
 * Draws pictures with a trained model: from a run's folder, one of its checkpoints, or published weights of DiT, MDT (either
 * version), MaskDiT or MaskDM under their official names. Which model it is follows from names and shapes (recognise.ts);
 * how its family draws is drawing.ts; latents become pictures by their autoencoder, or are shown in false colour. Every
 * picture has a seed of its own, and the same seed gives the same picture however many are drawn. Ctrl-C keeps what is
 * drawn. Run: npx tsx examples/sample.ts --help. Before: train-mdt-s.ts. Next: inpaint.ts.
 */

import { repeated } from '../cli/flags.ts'
import { runInChild } from '../cli/run-in-child.ts'
import { falseColour, openOutput } from '../cli/sample-output.ts'
import { command, planOf, type SampleFlags, sampleFlags } from '../cli/sample-settings.ts'
import { ready } from '../core/index.ts'
import { sha256Of } from '../io/checksum.ts'
import { UserError } from '../io/user-error.ts'
import { openWeights } from '../io/weights-node.ts'
import {
  type Drawing,
  drawn,
  type LevelSampler,
  maskditDrawing,
  maskdmDrawing,
  type Request,
  timestepDiffusion,
  timestepDrawing,
} from '../models/drawing.ts'
import { maskdmPresets } from '../models/index.ts'
import { describe, type Recognised, recognise } from '../models/recognise.ts'
import type { Init, Module } from '../nn/index.ts'
import { Interrupt, Progress, type RunState } from '../training/index.ts'
import { type Decode, decoderOf, type LatentSpace } from '../training/latents.ts'
import { load, locate, type Trained } from '../training/trained-run.ts'
import { loadVae, locateVae } from '../training/vae-weights.ts'

await runInChild(async () => {
  const flags = sampleFlags()
  const { path, run } = locate(flags.from, flags.weights)
  using file = await openWeights(path, { weights: flags.weights, part: flags.part })
  const { heads = run?.model.numHeads, 'decoder-heads': decoderHeads = run?.model.decoder?.numHeads } = flags
  const config = file.metadata.get('config')
  const found = recognise(file.state, path, { heads, decoderHeads, classes: flags.classes, config })
  const { inputSize: S, inChannels: C } = found.options
  const latent = run?.latents != null || C > 3
  const { batch, ...request } = planOf(flags, found, run?.classes ?? [], latent)
  const { seeds, labels, steps, sampler } = request
  if (latent && flags.vae === undefined && run?.latents == null && flags.out.endsWith('.npz'))
    throw new UserError('--vae: wanted with an .npz of pictures, since the model draws latents, got none')
  const output = openOutput(flags.out, { seeds, labels, about: `Drawn by \`${repeated(command)}\` with ${path}.` })

  await ready(flags)
  console.log(`${path}: ${describe(found)}`)
  const { model, draw } = drawerOf(found, path, run?.settings.preset, flags.schedule)
  console.log(`${model.countParameters().total.toLocaleString('en')} parameters, all of them from the file`)
  const decode = await decoder(run?.latents, flags, latent)
  const batches = Array.from(
    { length: Math.ceil(seeds.length / batch) },
    (_, i) => [i * batch, (i + 1) * batch] as const,
  )
  const progress = new Progress({ total: batches.length * steps })
  const interrupt = new Interrupt(() => progress.log('stopping after this step; what is drawn is kept'))
  const began = performance.now()
  let [done, pictures] = [0, 0]
  try {
    for (const [start, end] of batches) {
      const some = { ...request, seeds: seeds.slice(start, end), labels: labels?.slice(start, end) ?? null }
      const N = some.seeds.length
      const values = await drawn(draw(some), async () => {
        progress.update(++done, null, N / steps)
        return interrupt.asked()
      })
      if (values === null) break
      if (end >= seeds.length) model.dispose() // an autoencoder may need the room
      const made = { values, shape: [N, C, S, S] as const }
      await output.add({ ...some, ...(decode === null ? made : await decode(made)) })
      pictures += N
    }
  } finally {
    progress.close()
  }
  interrupt.close()
  if (pictures === 0) throw new UserError(`${flags.out}: nothing was drawn`)
  const speed = `${((1000 * pictures) / (performance.now() - began)).toFixed(2)} img/s`
  const shown = latent ? `, ${shownAs(flags, run)}` : ''
  console.log(`${await output.close()}, ${steps} steps of ${sampler}, ${speed}${shown}`)
})

/**
 * A recognised model with its weights, and how it draws; `trained` is a run's preset. Throws UserError where that is not
 * known, or not all weights fit.
 */
function drawerOf(
  found: Recognised,
  path: string,
  trained: string | undefined,
  told: SampleFlags['schedule'],
): { model: Module; draw: (request: Request) => Drawing } {
  const loaded = <M extends Module>(make: (init: Init) => M): M => {
    const model = make({ rng: null })
    load(model, found.state, path)
    return model
  }
  switch (found.family) {
    case 'MaskDiT': {
      const model = loaded(found.make)
      return { model, draw: request => maskditDrawing(model, { ...request, sampler: request.sampler as LevelSampler }) }
    }
    case 'MaskDM': {
      const schedule = told ?? maskdmPresets[trained ?? '']?.schedule ?? found.schedule
      if (schedule === null)
        throw new UserError(
          `${path}: presets of this size have either schedule: wanted --schedule, which no weight tells`,
        )
      const model = loaded(found.make)
      return { model, draw: request => maskdmDrawing(model, schedule, request) }
    }
    default: {
      const model = loaded<ReturnType<typeof found.make>>(found.make)
      const diffusion = timestepDiffusion(model.options)
      return { model, draw: request => timestepDrawing(model, diffusion, request) }
    }
  }
}

/** How what the model draws becomes pictures; null where it draws pictures. */
async function decoder(
  space: LatentSpace | null | undefined,
  { vae }: SampleFlags,
  latent: boolean,
): Promise<Decode | null> {
  if (space != null || !latent) return decoderOf(space, vae) // null for pictures, which have no use for --vae
  if (vae === undefined) return async latents => falseColour(latents)
  const path = locateVae(vae)
  const { model } = loadVae(path)
  model.dispose()
  return decoderOf({ path, sha256: await sha256Of(path), scalingFactor: model.scalingFactor }, path)
}

function shownAs({ vae }: SampleFlags, run: RunState<Trained> | null): string {
  if (vae !== undefined || run?.latents != null) return `decoded by ${vae ?? run?.latents?.path}`
  return 'latents in false colour (channels 1 to 3, each stretched to its own range); --vae decodes them'
}
