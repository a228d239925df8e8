/**
 * Unreadable pictures: each is reported once and counted, and another is taken in its place,
 * unless a set is opened as strict.
 */

import { aFunction, aSize, check, instanceOf, objectWith, optional } from '../core/arguments.ts'
import { UserError } from '../io/user-error.ts'
import { aPictureSet } from './arguments.ts'
import type { ImageDataset } from './dataset.ts'
import type { ClassFrom } from './help.ts'

/** A picture of a set that cannot be read; the message has its path. */
export class UnreadablePicture extends UserError {
  override name = 'UnreadablePicture'
}

/** Treatment of unreadable pictures. */
export interface OpenOptions {
  /** They are an error, as soon as one is met. */
  readonly strict?: boolean
  /** Takes a line for each one otherwise; by default stderr does. */
  readonly report?: (line: string) => void
  /** Where a folder has the classes of its pictures. Default: its sub-folders. */
  readonly classFrom?: ClassFrom
}

/** Lines that are reported; later ones are only counted. */
const mostLines = 20

/** The pictures of one set that were left out so far. */
export class Skipped {
  readonly #messages = new Set<string>()
  readonly #report: (line: string) => void

  constructor(report: (line: string) => void = line => console.error(line)) {
    check('Skipped', 'report', report, aFunction)
    this.#report = report
  }

  get count(): number {
    return this.#messages.size
  }

  /** Counts a picture and reports the first few. */
  add({ message }: UnreadablePicture): void {
    if (this.#messages.has(message)) return
    this.#messages.add(message)
    const { size } = this.#messages
    if (size <= mostLines) this.#report(`skipped: ${message}`)
    if (size === mostLines) this.#report('skipped: more pictures that cannot be read are counted, but not listed')
  }
}

const aSet = objectWith('a set of pictures', { skipped: optional(instanceOf('', Skipped)) })

/** Notes a picture that cannot be read. Throws the reason where it is another, or where the set is strict. */
export function leaveOut(set: Pick<ImageDataset, 'skipped'>, reason: unknown): void {
  check('leaveOut', 'set', set, aSet)
  const { skipped } = set
  if (skipped === undefined || !(reason instanceof UnreadablePicture)) throw reason
  skipped.add(reason)
}

/**
 * Picture `i` as bytes (3, size, size), or the next one that can be read where the set lets others be skipped, and which
 * one it is. `read` gives other bytes of a picture, such as a crop. Rejects with UnreadablePicture on a strict set, UserError where none can be read.
 */
export async function readableFrom(
  dataset: ImageDataset,
  i: number,
  read: (i: number) => Uint8Array | Promise<Uint8Array> = index => dataset.pixels(index),
): Promise<{ readonly index: number; readonly pixels: Uint8Array }> {
  check('readableFrom', 'dataset', dataset, aPictureSet)
  check('readableFrom', 'i', i, aSize)
  check('readableFrom', 'read', read, aFunction)
  for (let tried = 0; tried < dataset.length; tried++) {
    const index = (i + tried) % dataset.length
    try {
      return { index, pixels: await read(index) }
    } catch (error) {
      leaveOut(dataset, error)
    }
  }
  throw new UserError(`${dataset.name}: expected pictures that can be read, got none`)
}
