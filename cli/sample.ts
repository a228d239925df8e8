/**
 * `demask sample`: generates pictures with a trained model: from a run's folder, one of its checkpoints, or published weights
 * under their official names. models/recognise.ts tells which model it is from names and shapes, and the family's record
 * generates. Latents are decoded by their autoencoder, or shown in false colour. Every picture has a seed of its own, and the
 * same seed gives the same picture in any company. Ctrl-C keeps the finished batches. Under an MPI launcher ranks take batches in
 * turn, and rank 0 writes what all have drawn. Needs Node.
 */

import { ready } from '../core/index.ts'
import { init, threadsPerRank } from '../distributed/index.ts'
import { sha256Of } from '../io/checksum.ts'
import { UserError } from '../io/user-error.ts'
import { describe, readGenerated, recognise } from '../models/index.ts'
import { Interrupt, Progress } from '../training/index-node.ts'
import { type Decode, decoderOf, type Generated, type LatentSpace } from '../training/latents.ts'
import { checkRanksFlag } from '../training/settings.ts'
import { load, openTrained, type Trained } from '../training/trained-run.ts'
import { loadVae, locateVae } from '../training/vae-weights.ts'
import { shellLine } from './flags.ts'
import { falseColour, openOutput } from './sample-output.ts'
import { command, planOf, type SampleFlags, sampleFlags } from './sample-settings.ts'
import { shippedModel } from './shipped-model.ts'

export async function run(words: readonly string[]): Promise<void> {
  const flags = sampleFlags(words)
  const world = await init()
  checkRanksFlag(flags.ranks, world.size)
  using file = await openTrained(flags.from ?? shippedModel(), flags)
  const { path, run, told } = file
  const { heads = told.heads, 'decoder-heads': decoderHeads = told.decoderHeads } = flags
  const { classes = told.classes, schedule } = flags
  const found = recognise(file.state, path, { ...told, heads, decoderHeads, classes, schedule })
  const { family, options } = found
  const { inputSize: S, inChannels: C } = options
  const latent = run?.latents != null || C > 3
  const { batch: most, ...request } = planOf(flags, found, run?.classes ?? [], latent)
  const { seeds, labels, steps, sampler } = request
  if (latent && flags.vae === undefined && run?.latents == null && flags.out.endsWith('.npz'))
    throw new UserError('--vae: expected a file with an .npz of pictures, since the model generates latents, got none')
  const about = `Drawn by \`${shellLine(command, ...words)}\` with ${path}.`
  const output = world.first ? openOutput(flags.out, { seeds, labels, about }) : null
  const batch = Math.min(most, Math.ceil(seeds.length / world.size))

  await ready({ backend: flags.backend, threads: flags.threads ?? threadsPerRank() })
  console.log(`${path}: ${describe(found)}`)
  if (found.schedule === null)
    throw new UserError(
      `${path}: presets of this size have either schedule: expected --schedule, which no weight tells`,
    )
  const model = found.make({ rng: null })
  load(model, found.state, path)
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
  const part = ([start, end]: readonly [number, number]) => ({
    ...request,
    seeds: seeds.slice(start, end),
    labels: labels?.slice(start, end) ?? null,
  })
  /** Generates the pictures of a batch; null if that was interrupted. `isLast` frees the model. */
  const draw = async (range: readonly [number, number], isLast: boolean): Promise<Generated | null> => {
    const some = part(range)
    const N = some.seeds.length
    const values = await readGenerated(family.generation.generate(model, some), async () => {
      done += world.size
      progress.update(Math.min(done, batches.length * steps), null, (N * world.size) / steps)
      return interrupt.asked()
    })
    if (values === null) return null
    if (isLast) model.dispose() // an autoencoder may need the room
    const made = { values, shape: [N, C, S, S] as const }
    return decode === null ? made : decode(made)
  }
  try {
    for (let round = 0; round < batches.length; round += world.size) {
      const own = round + world.rank
      const drawn = own < batches.length ? await draw(batches[own], own + world.size >= batches.length) : null
      const all = world.gather(drawn?.values ?? new Float32Array())
      const finished = all.findIndex(values => values.length === 0)
      for (const [i, values] of all.slice(0, finished < 0 ? all.length : finished).entries()) {
        const some = part(batches[round + i])
        const N = some.seeds.length
        pictures += N
        if (output === null) continue
        const [, channels, height, width] = drawn!.shape // rank 0 has the first batch of a round
        await output.add({ ...some, values, shape: [N, channels, height, width] })
      }
      if (finished >= 0) break
    }
  } finally {
    progress.close()
  }
  interrupt.close()
  if (pictures === 0) throw new UserError(`${flags.out}: nothing was drawn`)
  const speed = `${((1000 * pictures) / (performance.now() - began)).toFixed(2)} img/s`
  const shown = latent ? `, ${shownAs(flags, run)}` : ''
  console.log(`${await output?.close()}, ${steps} steps of ${sampler}, ${speed}${shown}`)
  world.end()
}

/** Turns the model's latents into pictures; null if it generates pictures. */
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

function shownAs({ vae }: SampleFlags, run: Trained | null): string {
  if (vae !== undefined || run?.latents != null) return `decoded by ${vae ?? run?.latents?.path}`
  return 'latents in false colour (channels 1 to 3, each stretched to its own range); --vae decodes them'
}
