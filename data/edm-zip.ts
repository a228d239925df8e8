/**
 * Pictures in a ZIP container as EDM's and StyleGAN's dataset_tool.py write them: 00000/img00000000.png, … and
 * dataset.json, whose "labels" are [name, class] pairs or null [EDM]. Any ZIP of pictures is read, without dataset.json as
 * one class. Needs Node. Pictures are decoded as those of a folder (folder.ts), whenever they are drawn.
 */

import { basename } from 'node:path'
import { reason, UserError } from '../io/user-error.ts'
import { ZipFile } from '../io/zip-node.ts'
import type { ImageDataset } from './dataset.ts'
import { decodePicture, unreadable } from './folder.ts'
import { isPicture, isSystemFile, LeftOut } from './list-pictures.ts'
import { numbered } from './raw.ts'
import { type OpenOptions, Skipped } from './unreadable.ts'

const labelFile = 'dataset.json'
/** Bytes of dataset.json, and of a picture once inflated. */
const mostBytes = 2 ** 28
/** Classes that a label may tell of: 0 to one less. */
const mostClasses = 2 ** 16

/** The set in a ZIP container at `size`, by name. Rejects with UserError, and with ZipError on a damaged container. */
export async function openEdmZip(
  path: string,
  size: number,
  { strict = false, report = line => console.error(line) }: OpenOptions = {},
): Promise<ImageDataset> {
  const zip = await ZipFile.open(path).catch((error: NodeJS.ErrnoException) => {
    throw error.syscall === undefined ? error : new UserError(`${path}: expected a ZIP of pictures: ${reason(error)}`)
  })
  try {
    const names = [...zip.entries.keys()].filter(isPicture).sort()
    if (names.length === 0) throw new UserError(`${path}: expected pictures, got none of ${zip.entries.size} files`)
    const leftOut = new LeftOut()
    for (const name of zip.entries.keys())
      if (!name.endsWith('/') && !isPicture(name) && !isSystemFile(name) && name !== labelFile)
        leftOut.addFile(basename(name))
    if (leftOut.text !== null) report(`${path}: left out: ${leftOut.text}`)
    const labels = !zip.entries.has(labelFile)
      ? null
      : labelsIn(await bytesOf(zip, labelFile), `${path}: ${labelFile}`, names)
    const classes = labels === null ? 1 : labels.reduce((most, label) => Math.max(most, label + 1), 1)
    return {
      name: `zip:${path}`,
      length: names.length,
      size,
      channels: 3,
      classes: labels === null ? [basename(path).replace(/\.zip$/i, '')] : numbered(classes),
      flips: true,
      label: i => labels?.[i] ?? 0,
      pixels: async i => {
        try {
          return await decodePicture(await bytesOf(zip, names[i]), size)
        } catch (error) {
          throw unreadable(`${path}: ${names[i]}`, error)
        }
      },
      skipped: strict ? undefined : new Skipped(report),
    }
  } catch (error) {
    zip.close()
    throw error
  }
}

async function bytesOf(zip: ZipFile, name: string): Promise<Uint8Array> {
  const entry = zip.entries.get(name)!
  if (entry.size > mostBytes) throw new UserError(`${zip.path}: ${name}: expected less than 256 MiB, got ${entry.size}`)
  const parts: Uint8Array[] = []
  for await (const part of zip.stream(entry)) parts.push(part)
  return Buffer.concat(parts)
}

/** The class of each picture; null where dataset.json has no labels. Throws UserError. */
function labelsIn(bytes: Uint8Array, where: string, names: readonly string[]): number[] | null {
  let labels: unknown
  try {
    labels = (JSON.parse(Buffer.from(bytes).toString()) as { labels?: unknown } | null)?.labels
  } catch (error) {
    throw new UserError(`${where}: expected JSON: ${reason(error)}`)
  }
  if (labels === undefined || labels === null) return null
  if (!Array.isArray(labels)) throw new UserError(`${where}: expected labels as a list of [name, class]`)
  const byName = new Map<unknown, unknown>(
    labels.map(pair => (Array.isArray(pair) ? [pair[0], pair[1]] : [null, null])),
  )
  return names.map(name => {
    const label = byName.get(name)
    if (typeof label === 'number' && Number.isInteger(label) && label >= 0 && label < mostClasses) return label
    throw new UserError(
      `${where}: ${name}: expected a class from 0 to ${mostClasses - 1}, got ${JSON.stringify(label)}`,
    )
  })
}
