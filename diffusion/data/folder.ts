/**
 * A folder of pictures: one sub-folder per class, or pictures only, which are one class. Needs Node. Pictures are scaled
 * and cropped as in ADM: shorter side to `size`, by box averaging while that is a large reduction and bicubic for the
 * rest, then the central square; transparent ones are laid over white.
 */

import { type Dirent, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import sharp from 'sharp'
import { reason, UserError } from '../training/errors.ts'
import { type ImageDataset, planesOf } from './dataset.ts'

const picture = /\.(png|jpe?g|webp)$/i
/** Sets up to this size are decoded when they are opened, so that a damaged picture shows before training. */
const decodedAtOnce = 4096
/** Decoded pictures are kept until they take this many bytes; later ones are decoded again whenever they are drawn. */
const cacheBytes = 2 ** 30
/** Pictures decoded at a time when a set is opened. */
const together = 64

/**
 * The pictures (PNG, JPEG, WebP) in `path`, in the order of their names, at `size`. Throws UserError, with the path in
 * question, on a folder without pictures, and on a picture that cannot be read: at once for small sets, else when it is
 * drawn.
 */
export async function openFolder(path: string, size: number): Promise<ImageDataset> {
  if (!Number.isInteger(size) || size < 1) throw new UserError(`${path}: wanted a size of at least 1, got ${size}`)
  const { pictures: loose, folders } = list(path)
  const classes = folders
    .map(name => ({ name, pictures: list(join(path, name)).pictures }))
    .filter(({ pictures }) => pictures.length > 0)
  if (classes.length > 0 && loose.length > 0)
    throw new UserError(`${path}: wanted pictures or class folders, got both: '${loose[0]}' and '${classes[0].name}'`)
  if (classes.length === 0) classes.push({ name: '.', pictures: loose })
  const files = classes.flatMap(({ name, pictures }, label) =>
    pictures.map(file => ({ path: join(path, name, file), label })),
  )
  if (files.length === 0)
    throw new UserError(`${path}: wanted pictures (.png, .jpg, .jpeg, .webp) or class folders of pictures, got none`)

  const cache = new Map<number, Uint8Array>()
  const keep = Math.floor(cacheBytes / (3 * size * size))
  const pixels = (i: number): Uint8Array | Promise<Uint8Array> =>
    cache.get(i) ??
    readPicture(files[i].path, size).then(planes => {
      if (cache.size < keep) cache.set(i, planes)
      return planes
    })
  if (files.length <= Math.min(decodedAtOnce, keep))
    for (let i = 0; i < files.length; i += together)
      await Promise.all(files.slice(i, i + together).map((_, k) => pixels(i + k)))
  return {
    name: path,
    length: files.length,
    size,
    channels: 3,
    classes: classes.map(({ name }) => (name === '.' ? basename(resolve(path)) : name)),
    flips: true,
    label: i => files[i].label,
    pixels,
  }
}

/** Names of the pictures and the folders in a folder, in order. Links count as what they lead to. */
function list(path: string): { pictures: string[]; folders: string[] } {
  try {
    const entries = readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
    const isFolder = (entry: Dirent) =>
      entry.isDirectory() ||
      (entry.isSymbolicLink() && statSync(join(path, entry.name), { throwIfNoEntry: false })?.isDirectory() === true)
    const names = (some: Dirent[]) => some.map(entry => entry.name)
    return {
      pictures: names(entries.filter(entry => picture.test(entry.name) && !isFolder(entry))),
      folders: names(entries.filter(isFolder)),
    }
  } catch (error) {
    throw new UserError(`${path}: wanted a folder of pictures: ${reason(error)}`)
  }
}

/** The picture in a file as bytes, (3, size, size). Throws UserError. */
export async function readPicture(path: string, size: number): Promise<Uint8Array> {
  try {
    const { data, info } = await sharp(path)
      .autoOrient()
      .flatten({ background: 'white' })
      .resize(size, size, { fit: 'cover', position: 'centre', kernel: 'cubic' })
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true })
    return planesOf(data, info.channels)
  } catch (error) {
    throw new UserError(`${path}: wanted a picture, got one that cannot be read: ${reason(error)}`)
  }
}
