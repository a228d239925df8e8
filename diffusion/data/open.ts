/** From what a person writes after `--data` to a set of pictures. Needs Node. */

import { UserError } from '../training/errors.ts'
import type { ImageDataset } from './dataset.ts'
import { openEmoji } from './emoji.ts'
import { openFolder } from './folder.ts'

/**
 * `emoji`, `emoji:smileys`, or the path of a folder (a folder called emoji is `./emoji`), with pictures of `size` by
 * `size`. Throws UserError.
 */
export async function openDataset(spec: string, size: number): Promise<ImageDataset> {
  if (spec === 'emoji') return openEmoji('all', size)
  if (spec === 'emoji:smileys') return openEmoji('smileys', size)
  if (spec.startsWith('emoji:')) throw new UserError(`data: wanted emoji, emoji:smileys or a folder, got '${spec}'`)
  return openFolder(spec, size)
}
