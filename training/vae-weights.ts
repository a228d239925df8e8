/**
 * Autoencoders on disk: a safetensors file under diffusers' names that says in its metadata what it is of, as train-vae.ts
 * writes; the same without, with diffusers' config.json beside it or none; or a folder with one of these. Needs Node.
 * Used by train-vae.ts, latents.ts and the command encode-latents.
 */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { writeAside } from '../io/aside.ts'
import { SafetensorsFile, storable, writeSafetensors } from '../io/safetensors-node.ts'
import { reason, UserError } from '../io/user-error.ts'
import { configBeside, isPyTorch, stateOf } from '../io/weights-node.ts'
import { AutoencoderKL, autoencoderConfig, autoencoderOptions, autoencoderOptionsOfShapes } from '../models/index.ts'
import { load } from './trained-run.ts'

/** What train-vae.ts calls the file that it leaves, and what diffusers calls its own. */
export const vaeFile = 'vae.safetensors'
const diffusersFile = 'diffusion_pytorch_model.safetensors'

/** The file that `path` leads to. Throws UserError where there is none. */
export function locateVae(path: string): string {
  const kind = statSync(path, { throwIfNoEntry: false })
  if (kind?.isDirectory() !== true) {
    if (kind !== undefined) return path
    throw new UserError(`--vae: no such file or folder: ${path}`)
  }
  const found = [vaeFile, diffusersFile, join('vae', diffusersFile)].find(name => existsSync(join(path, name)))
  if (found !== undefined) return join(path, found)
  throw new UserError(`--vae: expected ${vaeFile} or ${diffusersFile} in ${path}, got neither`)
}

/** An autoencoder, and the size of pictures that it was trained on where the file says so. */
export interface Vae {
  readonly model: AutoencoderKL
  readonly size: number | null
}

/**
 * The autoencoder in a file, with its weights, on the default backend. Throws UserError or SafetensorsError, with the path,
 * where it is damaged or of something else.
 */
export function loadVae(path: string): Vae {
  if (isPyTorch(path))
    throw new UserError(`${path}: expected an autoencoder as .safetensors, which \`demask convert\` makes of it`)
  const file = new SafetensorsFile(path)
  try {
    const state = stateOf(file)
    const text = file.header.metadata.get('config') ?? configBeside(path)
    let model: AutoencoderKL
    let size: number | null = null
    try {
      const config: { readonly sample_size?: unknown } | null = text === undefined ? null : JSON.parse(text)
      const options = config === null ? autoencoderOptionsOfShapes(state) : autoencoderOptions(config)
      if (Number.isSafeInteger(config?.sample_size)) size = Number(config?.sample_size)
      model = new AutoencoderKL(options, { rng: null })
    } catch (error) {
      throw new UserError(`${path}: ${reason(error)}`, { cause: error })
    }
    load(model, state, path)
    return { model, size }
  } finally {
    file.close()
  }
}

/**
 * Writes the weights of a model for pictures of `size` and, as metadata, what they are of. Appears whole. Throws UserError
 * where the disk refuses.
 */
export async function saveVae(path: string, model: AutoencoderKL, scalingFactor: number, size: number): Promise<void> {
  const config = { ...autoencoderConfig({ ...model.options, scalingFactor }), sample_size: size }
  const metadata = new Map([
    ['format', 'pt'], // which diffusers insists on
    ['config', JSON.stringify(config)],
  ])
  await writeAside(path, aside => writeSafetensors(aside, storable(model.stateDict()), metadata))
}
