/**
 * Autoencoders on disk: a safetensors file under diffusers' names that says in its metadata what it is of, as train-vae.ts
 * writes; the same without, with diffusers' config.json beside it or none; or a folder with one of these. Needs Node.
 * Used by train-vae.ts, latent-pictures.ts and the command encode-latents.
 */

import { existsSync, readFileSync, statSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SafetensorsFile, storable, writeSafetensors } from '../core/safetensors-node.ts'
import { reason, UserError } from '../diffusion/training/index.ts'
import {
  AutoencoderKL,
  type AutoencoderKLOptions,
  autoencoderConfig,
  autoencoderOptions,
  autoencoderOptionsOfShapes,
} from '../models/index.ts'
import { load, stateOf } from './weights.ts'

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
  throw new UserError(`--vae: wanted ${vaeFile} or ${diffusersFile} in ${path}, got neither`)
}

/**
 * The autoencoder in a file, with its weights, on the default backend. Throws UserError or SafetensorsError, with the path,
 * where it is damaged or of something else.
 */
export function loadVae(path: string): AutoencoderKL {
  const file = new SafetensorsFile(path)
  try {
    const state = stateOf(file)
    const config = file.header.metadata.get('config') ?? configBeside(path)
    let model: AutoencoderKL
    try {
      const options = config === undefined ? autoencoderOptionsOfShapes(state) : autoencoderOptions(JSON.parse(config))
      model = new AutoencoderKL(options, { rng: null })
    } catch (error) {
      throw new UserError(`${path}: ${reason(error)}`, { cause: error })
    }
    load(model, state, path)
    return model
  } finally {
    file.close()
  }
}

function configBeside(path: string): string | undefined {
  const config = join(dirname(path), 'config.json')
  return path.endsWith(diffusersFile) && existsSync(config) ? readFileSync(config, 'utf8') : undefined
}

/** Writes the weights and, as metadata, what they are of: aside, then renamed. Throws UserError where the disk refuses. */
export async function saveVae(path: string, model: AutoencoderKL, scalingFactor: number): Promise<void> {
  const options: AutoencoderKLOptions = { ...model.options, scalingFactor }
  const metadata = new Map([
    ['format', 'pt'], // which diffusers insists on
    ['config', JSON.stringify(autoencoderConfig(options))],
  ])
  const aside = `${path}.tmp`
  try {
    await writeSafetensors(aside, storable(model.stateDict()), metadata)
    await rename(aside, path)
  } catch (error) {
    await rm(aside, { force: true })
    throw new UserError(`${path}: could not be written: ${reason(error)}`, { cause: error })
  }
}
