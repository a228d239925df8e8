/**
 * A folder of pictures: one sub-folder per class, or pictures only, which are one class. Needs Node. Pictures are scaled
 * and cropped to the byte as in ADM (resize.ts), after what ADM leaves out: they are turned as their camera was held, and
 * transparent ones are laid over white.
 */

import { type Dirent, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import sharp from 'sharp'
import { reason, UserError } from '../io/user-error.ts'
import { type ImageDataset, planesOf } from './dataset.ts'
import { centerCrop } from './resize.ts'
import { leaveOut, type OpenOptions, Skipped, UnreadablePicture } from './unreadable.ts'

const picture = /\.(png|jpe?g|webp)$/i
/** Sets up to this size are decoded when they are opened, so that a damaged picture shows before training. */
const decodedAtOnce = 4096
/** Decoded pictures are kept until they take this many bytes; later ones are decoded again whenever they are drawn. */
const cacheBytes = 2 ** 30
/** Pictures decoded at a time when a set is opened. */
const together = 64
/** Pixels of a picture that is decoded: what is larger takes more than 0.4 GiB, and is more likely to be a bomb. */
const mostPixels = 2 ** 27

/**
 * The pictures (PNG, JPEG, WebP) in `path`, in the order of their names, at `size`. A picture that cannot be read is left
 * out: of small sets at once, of others when it is drawn (`readableFrom`). Rejects with UserError, with the path in
 * question, on a folder without pictures, and where `strict` on the first picture that cannot be read.
 */
export async function openFolder(
  path: string,
  size: number,
  { strict = false, report }: OpenOptions = {},
): Promise<ImageDataset> {
  const { files, classes } = filesIn(path)
  const skipped = strict ? undefined : new Skipped(report)
  const cache = new Map<string, Uint8Array>()
  const keep = Math.floor(cacheBytes / (3 * size * size))
  const read = async (file: string): Promise<Uint8Array> => {
    const planes = await readPicture(file, size)
    if (cache.size < keep) cache.set(file, planes)
    return planes
  }
  const small = files.length <= Math.min(decodedAtOnce, keep)
  const pictures = small ? await readable(files, read, skipped) : files
  if (pictures.length === 0) throw new UserError(`${path}: wanted pictures, got ${files.length} that cannot be read`)
  return {
    name: path,
    length: pictures.length,
    size,
    channels: 3,
    classes,
    flips: true,
    label: i => pictures[i].label,
    pixels: i => cache.get(pictures[i].path) ?? read(pictures[i].path),
    skipped,
  }
}

interface PictureFile {
  readonly path: string
  /** Index of its class. */
  readonly label: number
}

/** The pictures of a folder and the names of its classes. Throws UserError. */
function filesIn(path: string): { files: PictureFile[]; classes: string[] } {
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
  return { files, classes: classes.map(({ name }) => (name === '.' ? basename(resolve(path)) : name)) }
}

/** Those of the pictures that can be read, in order. Rejects on the first that cannot where none may be skipped. */
async function readable(
  files: readonly PictureFile[],
  read: (path: string) => Promise<Uint8Array>,
  skipped: Skipped | undefined,
): Promise<PictureFile[]> {
  const found: PictureFile[] = []
  for (let start = 0; start < files.length; start += together) {
    const some = files.slice(start, start + together)
    const results = await Promise.allSettled(some.map(({ path }) => read(path)))
    for (const [i, result] of results.entries()) {
      if (result.status === 'fulfilled') found.push(some[i])
      else leaveOut({ skipped }, result.reason)
    }
  }
  return found
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

/** The picture in a file as bytes, (3, size, size). Rejects with UnreadablePicture. */
export async function readPicture(path: string, size: number): Promise<Uint8Array> {
  try {
    const { data, info } = await sharp(path, { limitInputPixels: mostPixels })
      .autoOrient()
      .flatten({ background: 'white' })
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true })
    return planesOf(centerCrop({ data, width: info.width, height: info.height }, size).data, 3)
  } catch (error) {
    throw new UnreadablePicture(`${path}: wanted a picture, got one that cannot be read: ${reason(error)}`)
  }
}
