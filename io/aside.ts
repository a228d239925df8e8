/**
 * Files that appear whole: written aside in the same folder, forced to the disk, and given their name by one rename. What
 * was there under that name stays until then. Needs Node. Whole folders of a run are checkpoint.ts.
 */

import { rmSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { aFunction, aString, check } from '../core/arguments.ts'
import { reason, UserError } from './user-error.ts'

/**
 * Has `write` write a file under another name and gives it this one. Throws UserError where the disk is full or refuses,
 * and whatever else `write` throws; then what was at `path` is as it was.
 */
export async function writeAside(path: string, write: (aside: string) => Promise<void>): Promise<void> {
  check('writeAside', 'path', path, aString)
  check('writeAside', 'write', write, aFunction)
  const aside = join(dirname(path), `.tmp-${process.pid}-${basename(path)}`)
  try {
    await write(aside)
    await sync(aside)
    await rename(aside, path)
    await sync(dirname(path))
  } catch (error) {
    rmSync(aside, { force: true, recursive: true })
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error
    throw new UserError(`${path}: could not be written: ${reason(error)}`, { cause: error })
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
