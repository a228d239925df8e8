/** From what a person writes after `--data` to a set of pictures. Needs Node. */

import { statSync } from 'node:fs'
import { aCount, aString, check, checkOptions } from '../core/arguments.ts'
import { UserError } from '../io/user-error.ts'
import { openKinds } from './arguments.ts'
import { openCifar } from './cifar.ts'
import type { ImageDataset } from './dataset.ts'
import { openEdmZip } from './edm-zip.ts'
import { openEmoji } from './emoji.ts'
import { openFolder } from './folder.ts'
import { openIdx, openMnist } from './idx.ts'
import { openNpz } from './npz-pictures.ts'
import type { OpenOptions } from './unreadable.ts'

type Opener = (path: string, size: number, options: OpenOptions) => ImageDataset | Promise<ImageDataset>

/** Sets that are named by a kind and a path. */
const kinds: Readonly<Record<string, Opener>> = {
  cifar10: (path, size) => openCifar('cifar10', path, size),
  cifar100: (path, size) => openCifar('cifar100', path, size),
  mnist: openMnist,
  idx: openIdx,
  npz: openNpz,
  zip: openEdmZip,
}

/**
 * The set that `spec` names, with pictures of `size` by `size`: `emoji`, `emoji:smileys`, `emoji:others`; `cifar10:` or `cifar100:` and a
 * folder or .bin file; `mnist:` and a folder; `idx:` and a file of pictures; `npz:` and an .npz or .npy as ADM has them; `zip:` and
 * a file as EDM has them, or such a file's path alone; a .csv or .jsonl that lists pictures; or the path of a folder (one called emoji is `./emoji`). Rejects with UserError, and with one line on a damaged file.
 */
export async function openDataset(spec: string, size: number, options: OpenOptions = {}): Promise<ImageDataset> {
  check('openDataset', 'spec', spec, aString)
  check('openDataset', 'size', size, aCount)
  checkOptions('openDataset', options, openKinds)
  if (options.classFrom === 'prefix' && !isFolder(spec))
    throw new UserError(`--class-from: expected a folder of pictures for 'prefix', got ${spec}`)
  if (spec === 'emoji') return openEmoji('all', size)
  if (spec === 'emoji:smileys') return openEmoji('smileys', size)
  if (spec === 'emoji:others') return openEmoji('others', size)
  if (spec.startsWith('emoji:'))
    throw new UserError(`data: expected emoji, emoji:smileys, emoji:others or a folder, got '${spec}'`)
  const colon = spec.indexOf(':')
  const kind = spec.slice(0, Math.max(colon, 0))
  const extension = /\.(npz|npy|zip)$/.exec(spec)?.[1]
  if (extension !== undefined && statSync(spec, { throwIfNoEntry: false })?.isFile())
    return kinds[extension === 'zip' ? 'zip' : 'npz'](spec, size, options)
  return Object.hasOwn(kinds, kind)
    ? kinds[kind](spec.slice(colon + 1), size, options)
    : openFolder(spec, size, options)
}

/** True if `spec` is a path, not the name of a set or of a kind. A path that does not exist is a folder's. */
function isFolder(spec: string): boolean {
  const isNamed = /^emoji(:|$)/.test(spec) || Object.hasOwn(kinds, spec.slice(0, Math.max(spec.indexOf(':'), 0)))
  return !isNamed && statSync(spec, { throwIfNoEntry: false })?.isFile() !== true
}
