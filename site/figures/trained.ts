/** The small trained model of the playground, and pictures for it, as the figures use them. Needs Node. */

import { join } from 'node:path'
import { type Backend, ready, tensor } from '../../core/index.ts'
import { type ImageDataset, imagesOf, openEmoji } from '../../data/index.ts'
import { readSafetensors } from '../../io/index-node.ts'
import { MDT, mdtPreset } from '../../models/index.ts'
import { root } from '../regions.ts'

/** The model, its pictures, and the backend of both: one thread, whose bytes are those of any number. */
export interface Trained {
  readonly model: MDT
  readonly data: ImageDataset
  readonly backend: Backend
}

let opened: Promise<Trained> | undefined

/** Opens the model once. */
export function trained(): Promise<Trained> {
  opened ??= open()
  return opened
}

async function open(): Promise<Trained> {
  const backend = await ready({ backend: 'wasm', threads: 1 })
  const { tensors } = readSafetensors(join(root, 'docs/public/playground/mdt-tiny.safetensors'))
  const data = await openEmoji('smileys', 16)
  const pictures = { inputSize: data.size, inChannels: data.channels, numClasses: data.classes.length }
  const model = new MDT(mdtPreset('tiny', pictures), { rng: null, backend })
  model.loadStateDict(tensors)
  return { model, data, backend }
}

/** Planes (3, S, S) in [−1, 1] of a picture. */
export async function planesOf(data: ImageDataset, i: number): Promise<Float32Array> {
  return imagesOf([await data.pixels(i)], data.size)
}

/** A picture as a batch of one, (1, 3, S, S). */
export async function batchOf({ data, backend }: Trained, i: number) {
  return tensor(await planesOf(data, i), { shape: [1, 3, data.size, data.size], backend })
}
