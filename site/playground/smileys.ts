/** The smileys in a page: a data set like any other, fetched once. Written by assets.ts. */

import type { ImageDataset } from '../../data/dataset.ts'

export interface SmileysHeader {
  readonly size: number
  readonly classes: readonly string[]
  /** Of each picture. */
  readonly labels: readonly number[]
}

/** Fetches a file of the site. Throws with its address where there is none. */
export async function fetched(address: string): Promise<Response> {
  const response = await fetch(address)
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`)
  return response
}

/** The data set of train-mdt-s.ts's default, picture for picture. `base` is the site's address. */
export async function openSmileys(base: string): Promise<ImageDataset> {
  const header: SmileysHeader = await (await fetched(`${base}playground/smileys.json`)).json()
  const bytes = new Uint8Array(await (await fetched(`${base}playground/smileys.bin`)).arrayBuffer())
  const { size, classes, labels } = header
  const area = 3 * size * size
  return {
    name: 'emoji:smileys',
    length: labels.length,
    size,
    channels: 3,
    classes,
    flips: false,
    label: i => labels[i],
    pixels: i => bytes.subarray(i * area, (i + 1) * area),
  }
}
