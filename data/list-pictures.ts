/**
 * Pictures of a folder and their classes, as torchvision's ImageFolder finds them: the first level of folders are classes,
 * pictures lie at any depth below. Needs Node. Links are followed, names may be any bytes, and nothing is opened here.
 * Whatever is no picture (hidden files, other formats, broken links, pipes) is left out, counted and reported in one line.
 */

import { type BigIntStats, type Dirent, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { reason, UserError } from '../io/user-error.ts'
import type { ClassFrom } from './help.ts'

/** A path whose bytes are UTF-8 is text; another is its bytes. */
export type Path = string | Buffer

export interface PictureFile {
  readonly path: Path
  /** Index of its class. */
  readonly label: number
}

export interface Listing {
  readonly files: readonly PictureFile[]
  readonly classes: readonly string[]
  /** Lines for a person: files left out, folders that look like splits. */
  readonly notes: readonly string[]
}

/** File names of pictures, by the formats that sharp decodes. */
const picture = /\.(png|jpe?g|jpe|jfif|webp|gif|tiff?|avif)$/i
const formats = '.png, .jpg, .webp, .gif, .tif or .avif'
/** True if a file's name, without folders or with them, is that of a picture, and no part of it is hidden. */
export function isPicture(name: string): boolean {
  return picture.test(name) && !name.split('/').some(part => hidden.test(part)) && !isSystemFile(name)
}

/** True if a part of a file's name is one that operating systems add. */
export function isSystemFile(name: string): boolean {
  return name.split('/').some(part => systemFile.test(part))
}

/** Files that an operating system adds; they are passed over without a word. */
const systemFile = /^(__MACOSX|\._.*|\.DS_Store|Thumbs\.db|desktop\.ini)$/i
const hidden = /^\./
const splits = /^(train|training|val|valid|validation|test|testing|eval)$/i
/** Names that are listed for one reason. */
const mostNames = 3

/** The pictures in `path`, by class and name. Throws UserError on a folder without pictures. */
export function listPictures(path: string, classFrom: ClassFrom = 'folder'): Listing {
  const leftOut = new LeftOut()
  const top = entriesOf(path, leftOut, error => {
    throw new UserError(`${path}: expected a folder of pictures: ${reason(error)}`)
  })
  const { dev, ino } = statSync(path, { bigint: true })
  const below = top.folders.map(({ name, path: folder, id }) => {
    const pictures: Entry[] = []
    collect({ name, path: folder, id }, pictures, new Set([`${dev}:${ino}`]), leftOut)
    if (pictures.length === 0) leftOut.add('folder', 'without pictures', name)
    return { name, pictures }
  })
  const folders = below.filter(({ pictures }) => pictures.length > 0)
  const found =
    classFrom === 'prefix'
      ? byPrefix(path, [...top.pictures, ...folders.flatMap(({ pictures }) => pictures)])
      : byFolder(path, top.pictures, folders)
  const notes = leftOut.text === null ? [] : [`left out: ${leftOut.text}`]
  if (found.length === 0)
    throw new UserError(
      `${path}: expected pictures (${formats}) or class folders of pictures, got none${notes.map(note => `; ${note}`).join('')}`,
    )
  const classes = found.map(({ name }) => name)
  if (classFrom === 'folder' && folders.length > 0 && classes.every(name => splits.test(name)))
    notes.push(`its classes are ${classes.join(', ')}: pass ${join(path, classes[0])} for the classes below`)
  const files = found.flatMap(({ pictures }, label) => pictures.map(({ path }) => ({ path, label })))
  return { files, classes, notes }
}

interface Class {
  readonly name: string
  readonly pictures: readonly Entry[]
}

function byFolder(path: string, loose: readonly Entry[], folders: readonly Class[]): readonly Class[] {
  if (loose.length === 0) return folders
  if (folders.length > 0)
    throw new UserError(
      `${path}: expected pictures or class folders, got both: '${loose[0].name}' and '${folders[0].name}'`,
    )
  return [{ name: basename(resolve(path)), pictures: loose }]
}

function byPrefix(path: string, pictures: readonly Entry[]): readonly Class[] {
  const classes = new Map<string, Entry[]>()
  for (const entry of pictures) {
    const end = entry.name.indexOf('_')
    if (end <= 0)
      throw new UserError(`${path}: expected names as cat_1.png, with a class before '_', got '${entry.name}'`)
    const name = entry.name.slice(0, end)
    const others = classes.get(name)
    if (others === undefined) classes.set(name, [entry])
    else others.push(entry)
  }
  return [...classes].map(([name, pictures]) => ({ name, pictures })).sort(byName)
}

/** Adds the pictures of a folder, then those of its folders. A folder that was seen is not entered again. */
function collect({ name, path, id }: Folder, pictures: Entry[], seen: Set<string>, leftOut: LeftOut): void {
  if (seen.has(id)) {
    leftOut.add('link', 'to a folder that was read', name)
    return
  }
  seen.add(id)
  const entries = entriesOf(path, leftOut, error =>
    leftOut.add('folder', `that cannot be read, ${reason(error)}`, name),
  )
  for (const entry of entries.pictures) pictures.push(entry)
  for (const folder of entries.folders) collect(folder, pictures, seen, leftOut)
}

/** A name as it is shown, and where it is. */
interface Entry {
  readonly name: string
  readonly path: Path
}

interface Folder extends Entry {
  /** Device and inode: the same for all links to it. */
  readonly id: string
}

/** Pictures and folders in a folder, by name. */
function entriesOf(
  path: Path,
  leftOut: LeftOut,
  failed: (error: unknown) => void,
): { readonly pictures: readonly Entry[]; readonly folders: readonly Folder[] } {
  const pictures: Entry[] = []
  const folders: Folder[] = []
  let entries: Dirent<Buffer>[] = []
  try {
    entries = readdirSync(path, { encoding: 'buffer', withFileTypes: true })
  } catch (error) {
    failed(error)
  }
  for (const dirent of entries) {
    const entry = { name: shown(dirent.name), path: within(path, dirent.name) }
    if (systemFile.test(entry.name)) continue
    if (hidden.test(entry.name)) {
      leftOut.add(dirent.isDirectory() ? 'hidden folder' : 'hidden file', '', entry.name)
      continue
    }
    const stats = dirent.isFile() ? null : statsOf(entry, leftOut)
    if (stats === undefined) continue
    if (stats?.isDirectory()) folders.push({ ...entry, id: `${stats.dev}:${stats.ino}` })
    else if (stats !== null && !stats.isFile()) leftOut.add('special file', '', entry.name)
    else if (picture.test(entry.name)) pictures.push(entry)
    else leftOut.addFile(entry.name)
  }
  return { pictures: pictures.sort(byName), folders: folders.sort(byName) }
}

/** The stats of a link's target, of a folder or of a special file; undefined where there are none. */
function statsOf({ name, path }: Entry, leftOut: LeftOut): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ELOOP') leftOut.add('broken link', '', name)
    else leftOut.add('file', `that cannot be read, ${reason(error)}`, name)
  }
}

function extensionOf(name: string): string {
  return /\.[^.\s]{1,16}$/.exec(name)?.[0].toLowerCase() ?? 'without an extension'
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

function isText(bytes: Buffer): boolean {
  return bytes.equals(Buffer.from(bytes.toString()))
}

function within(folder: Path, name: Buffer): Path {
  if (typeof folder === 'string' && isText(name)) return join(folder, name.toString())
  return Buffer.concat([Buffer.from(folder), Buffer.from('/'), name])
}

/** A path or name as text; bytes that are no UTF-8 as `\xe9`. */
export function shown(path: Path): string {
  if (typeof path === 'string' || isText(path)) return path.toString()
  // Latin-1 has a letter for every byte: ASCII stays, and so do sequences that are UTF-8.
  const utf8 = /[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[\x80-\xff]/g
  return path.toString('latin1').replace(utf8, text => {
    const bytes = Buffer.from(text, 'latin1')
    return isText(bytes) ? bytes.toString() : bytes.toString('hex').replace(/../g, '\\x$&')
  })
}

/** Counts what is left out, by reason. */
export class LeftOut {
  readonly #reasons = new Map<string, { readonly noun: string; readonly why: string; readonly names: string[] }>()

  add(noun: string, why: string, name: string): void {
    const key = `${noun} ${why}`
    const reason = this.#reasons.get(key) ?? { noun, why, names: [] }
    reason.names.push(name)
    this.#reasons.set(key, reason)
  }

  /** Counts a file that is no picture, by its extension. */
  addFile(name: string): void {
    this.add('file', extensionOf(name), name)
  }

  /** All reasons with their counts, on one line; null where nothing is left out. */
  get text(): string | null {
    if (this.#reasons.size === 0) return null
    return [...this.#reasons.values()].map(counted).join(', ')
  }
}

function counted({ noun, why, names }: { noun: string; why: string; names: readonly string[] }): string {
  if (why.startsWith('.')) return `${names.length} ${why}`
  const some = names.slice(0, mostNames).map(name => `'${name.replace(/\p{Cc}/gu, '?')}'`)
  if (names.length > mostNames) some.push('…')
  return `${names.length} ${noun}${names.length > 1 ? 's' : ''}${why && ` ${why}`} (${some.join(', ')})`
}
