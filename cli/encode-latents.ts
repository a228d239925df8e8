/**
 * `demask encode-latents`: pictures through an autoencoder into a folder of latents, which training programs take in their
 * place. Needs Node. The folder's format is data/latents-index.ts; how it is written so that a stop or a kill
 * costs little is latents-write.ts.
 */

import { basename, join, resolve } from 'node:path'
import { backendNames, ready } from '../core/index.ts'
import { classFromHelp, classSources, openDataset, writeLatents } from '../data/index.ts'
import { init, threadsPerRank } from '../distributed/index.ts'
import { sha256Of } from '../io/checksum.ts'
import { lockFolder } from '../io/lock.ts'
import { UserError } from '../io/user-error.ts'
import { arithmetic, Interrupt, Progress } from '../training/index-node.ts'
import { momentsOf, togetherAt } from '../training/latents.ts'
import { checkRanksFlag } from '../training/settings.ts'
import { loadVae, locateVae, vaeFile } from '../training/vae-weights.ts'
import { demask } from './command.ts'
import { readFlags, shellLine } from './flags.ts'

export async function run(words: readonly string[]): Promise<void> {
  const {
    dir,
    vae,
    out: given,
    strict,
    ...flags
  } = readFlags(
    {
      command: `${demask} encode-latents`,
      about:
        'Encodes pictures once, so that models can be trained on their latents. The same command goes on after a stop.',
      operands: {
        dir: { about: 'a folder of pictures, by class or not, or whatever --data of the training programs takes' },
      },
      flags: {
        vae: {
          type: 'text',
          value: 'FILE',
          needed: true,
          about: "the autoencoder: what train-vae left, or diffusers' safetensors (sd-vae-ft-mse)",
        },
        size: {
          type: 'integer',
          min: 1,
          max: 2048,
          about: 'height and width of the pictures (default what the autoencoder was trained on, or 256)',
        },
        out: { type: 'text', value: 'DIR', about: 'the folder of latents (default runs/latents-NAME-SIZE)' },
        'class-from': { type: 'text', choices: classSources, about: `${classFromHelp} (default folder)` },
        strict: { type: 'switch', about: 'end at a picture that cannot be read, instead of leaving it out' },
        ranks: { type: 'integer', min: 1, about: 'start this many processes over MPI, which encode shards in turn' },
        backend: { type: 'text', choices: backendNames, about: 'where tensors live (default wasm)' },
        threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
      },
      examples: [
        ['emoji:smileys --vae runs/vae-tiny', "smileys, with one's own autoencoder"],
        ['my-pictures --vae sd-vae-ft-mse.safetensors --size 256', "your pictures, with Stable Diffusion's"],
      ],
    },
    words,
  )
  const world = await init()
  checkRanksFlag(flags.ranks, world.size)
  const file = locateVae(vae)
  const sha256 = await sha256Of(file)
  const backend = await ready({ backend: flags.backend, threads: flags.threads ?? threadsPerRank() })
  const { model, size: trained } = loadVae(file)
  const { inChannels = 3, latentChannels } = model.options
  const { size = trained ?? 256 } = flags
  const factor = model.downsampling
  if (inChannels !== 3)
    throw new UserError(`${file}: expected an autoencoder of RGB pictures, got ${inChannels} channels`)
  if (size % factor !== 0) throw new UserError(`--size: expected a multiple of ${factor}, got ${size}`)
  const data = await openDataset(dir, size, { strict, classFrom: flags['class-from'] })
  const name = basename(data.name).replace(/[^\w.-]+/g, '-')
  const out = given ?? join('runs', `latents-${name}-${size}`)

  if (world.first) lockFolder(out)
  const side = size / factor
  const together = togetherAt(size)
  const { length: pictures, classes, flips: mirrored } = data
  console.log(
    `${pictures} pictures of ${data.name} at ${size} px${mirrored ? ' and their mirror images' : ''} to ${out}`,
  )
  let progress: Progress | undefined
  const interrupt = new Interrupt(() => progress?.log('stopping after this batch; what is encoded is kept'))
  const index = await writeLatents(
    out,
    data,
    {
      data: data.name,
      size,
      pictures,
      classes,
      mirrored,
      shape: [latentChannels, side, side],
      vae: { file: vaeFile, sha256, from: resolve(file), scalingFactor: model.scalingFactor },
      arithmetic: arithmetic(backend),
    },
    {
      encode: images => momentsOf(model, images, size),
      together,
      stop: () => interrupt.asked(),
      world,
      say: line => (progress === undefined ? console.log(line) : progress.log(line)),
      done: done => {
        const batches = Math.ceil(done / together)
        if (progress === undefined) progress = new Progress({ total: Math.ceil(pictures / together), done: batches })
        else progress.update(batches, null, together)
      },
    },
  ).finally(() => progress?.close())
  interrupt.close()

  const { shards, skipped } = index
  const [encoded, bytes] = [shards.reduce((n, { rows }) => n + rows, 0), shards.reduce((n, each) => n + each.bytes, 0)]
  const left = skipped === 0 ? '' : `; ${skipped} that could not be read are left out`
  console.log(
    `${out}: ${encoded} pictures as ${latentChannels} × ${side} × ${side} latents, ${(bytes / 2 ** 20).toFixed(1)} MiB${left}`,
  )
  if (index.complete) console.log(`train on them with: ${shellLine(`${demask} train mdt`, '--latents', out)}`)
  else console.log(`of ${pictures}; go on with the same command`)
  world.end()
}
