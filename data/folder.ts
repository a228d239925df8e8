/**
 * Pictures in files as a data set: those of a folder (list-pictures.ts) or of a list (list-rows.ts). Needs Node. Pictures
 * are scaled and cropped to the byte as in ADM (resize.ts), after what ADM leaves out: they are turned as their camera was
 * held, and transparent ones are laid over white.
 */

import { constants, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { aCount, aString, aUint8Array, check, checkOptions, either } from '../core/arguments.ts'
import { reason, UserError } from '../io/user-error.ts'
import { openKinds } from './arguments.ts'
import { type ImageDataset, planesOf } from './dataset.ts'
import type { ClassFrom } from './help.ts'
import { type Listing, listPictures, type Path, type PictureFile, shown } from './list-pictures.ts'
import { isList, listRows } from './list-rows.ts'
import { centerCrop } from './resize.ts'
import { leaveOut, type OpenOptions, Skipped, UnreadablePicture } from './unreadable.ts'

/** Sets up to this size are decoded when they are opened, so that a damaged picture shows before training. */
const decodedAtOnce = 4096
/** Decoded pictures are kept until they take this many bytes; later ones are decoded again whenever they are drawn. */
const cacheBytes = 2 ** 30
/** Pictures decoded at a time when a set is opened. */
const together = 64
/** Errors that say nothing of a picture: too many open files, no memory. */
const ofTheMachine = new Set(['EMFILE', 'ENFILE', 'ENOMEM'])
/** Pixels of a picture that is decoded: what is larger takes more than 0.4 GiB, and is more likely to be a bomb. */
const mostPixels = 2 ** 27

/**
 * The pictures in `path`, a folder (`listPictures`) or a list (`listRows`), at `size`. A picture that cannot be read is left
 * out: of small sets at once, of others when it is drawn (`readableFrom`). Rejects with UserError, with the path in
 * question, on a folder without pictures or a bad row, and where `strict` on the first picture that cannot be read.
 */
export async function openFolder(path: string, size: number, options: OpenOptions = {}): Promise<ImageDataset> {
  check('openFolder', 'path', path, aString)
  check('openFolder', 'size', size, aCount)
  checkOptions('openFolder', options, openKinds)
  return openListing(path, listingOf(path, options.classFrom), size, options)
}

/**
 * The pictures in `path` at the most common of their shorter sides, of equally common ones the least; `sides` are the least
 * and the largest. A file is read once, if all take less than 1 GiB. Otherwise as `openFolder`.
 */
export async function openFolderAtCommonSize(
  path: string,
  options: OpenOptions = {},
): Promise<{ readonly set: ImageDataset; readonly sides: readonly [least: number, largest: number] }> {
  check('openFolderAtCommonSize', 'path', path, aString)
  checkOptions('openFolderAtCommonSize', options, openKinds)
  const listing = listingOf(path, options.classFrom)
  const { counts, encoded } = await shorterSides(listing)
  const [[size] = [1, 0]] = [...counts].sort(([a, n], [b, m]) => m - n || a - b) // of 1 px, if no picture can be read
  const set = await openListing(path, listing, size, options, encoded)
  return { set, sides: [Math.min(...counts.keys()), Math.max(...counts.keys())] }
}

/** Opens pictures that are listed. Those among `encoded` are taken from it. */
async function openListing(
  path: string,
  { files, classes, notes }: Listing,
  size: number,
  { strict = false, report = line => console.error(line) }: OpenOptions,
  encoded = new Map<Path, Uint8Array>(),
): Promise<ImageDataset> {
  for (const note of notes) report(`${path}: ${note}`)
  const skipped = strict ? undefined : new Skipped(report)
  const cache = new Map<Path, Uint8Array>()
  const keep = Math.floor(cacheBytes / (3 * size * size))
  const read = async (file: Path): Promise<Uint8Array> => {
    const bytes = encoded.get(file)
    encoded.delete(file)
    const planes = await (bytes === undefined ? readPicture(file, size) : decodeFile(file, bytes, size))
    if (cache.size < keep) cache.set(file, planes)
    return planes
  }
  const small = files.length <= Math.min(decodedAtOnce, keep)
  const pictures = small ? await readable(files, read, skipped) : files
  if (pictures.length === 0) throw new UserError(`${path}: expected pictures, got ${files.length} that cannot be read`)
  const labels = new Set(pictures.map(({ label }) => label))
  for (const [label, name] of classes.entries())
    if (!labels.has(label)) report(`${path}: class '${name}' has no picture that can be read`)
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

function listingOf(path: string, classFrom?: ClassFrom): Listing {
  return isList(path) && statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true
    ? listRows(path)
    : listPictures(path, classFrom)
}

/** Returns the readable pictures, in order. Rejects on the first unreadable one if none may be skipped. */
async function readable(
  files: readonly PictureFile[],
  read: (path: Path) => Promise<Uint8Array>,
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

const aPath = either(aString, aUint8Array)

/** The picture in a file as bytes, (3, size, size); of several frames the first. Rejects with UnreadablePicture. */
export async function readPicture(path: Path, size: number): Promise<Uint8Array> {
  check('readPicture', 'path', path, aPath)
  check('readPicture', 'size', size, aCount)
  return decodeFile(path, await readRegular(path), size)
}

async function decodeFile(path: Path, bytes: Uint8Array, size: number): Promise<Uint8Array> {
  try {
    return await decodePicture(bytes, size)
  } catch (error) {
    throw unreadable(path, error)
  }
}

/**
 * Counts pictures by their shorter side, without those that cannot be read. Returns the bytes of the files, up to
 * `cacheBytes` in all. Rejects with UserError where the machine is at fault.
 */
async function shorterSides({ files }: Listing) {
  const { default: sharp } = await import('sharp')
  const counts = new Map<number, number>()
  const encoded = new Map<Path, Uint8Array>()
  let kept = 0
  for (let start = 0; start < files.length; start += together) {
    const some = files.slice(start, start + together).map(async ({ path }) => {
      const bytes = await readRegular(path)
      if (kept + bytes.length <= cacheBytes) {
        kept += bytes.length
        encoded.set(path, bytes)
      }
      return sharp(bytes).metadata()
    })
    for (const result of await Promise.allSettled(some)) {
      if (result.status === 'rejected') {
        if (result.reason instanceof UserError && !(result.reason instanceof UnreadablePicture)) throw result.reason
        continue
      }
      const side = Math.min(result.value.width, result.value.height)
      counts.set(side, (counts.get(side) ?? 0) + 1)
    }
  }
  return { counts, encoded }
}

/** The picture in encoded bytes, (3, size, size). Rejects with the decoder's error. */
export async function decodePicture(bytes: Uint8Array, size: number): Promise<Uint8Array> {
  if (bytes.length === 0) throw new Error('the file is empty')
  const { default: sharp } = await import('sharp')
  const { data, info } = await sharp(bytes, { limitInputPixels: mostPixels })
    .autoOrient()
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true })
  return planesOf(centerCrop({ data, width: info.width, height: info.height }, size).data, 3)
}

/**
 * The bytes of a regular file. A pipe is refused, and never waited for. Rejects with UnreadablePicture, or with UserError
 * where the machine is at fault and other pictures would fail too.
 */
async function readRegular(path: Path): Promise<Uint8Array> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    if (!(await file.stat()).isFile()) throw new Error('a pipe or device')
    return await file.readFile()
  } catch (error) {
    if (ofTheMachine.has((error as NodeJS.ErrnoException).code ?? ''))
      throw new UserError(`${shown(path)}: could not be read: ${reason(error)}`)
    throw unreadable(path, error)
  }
}

/** Returns the error for a picture that cannot be read. */
export function unreadable(path: Path, error: unknown): UnreadablePicture {
  return new UnreadablePicture(`${shown(path)}: expected a picture, got one that cannot be read: ${reason(error)}`)
}
