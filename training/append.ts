/**
 * A file that grows during a run. Needs Node.
 */

import { appendFileSync, closeSync, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { reason, UserError } from '../io/user-error.ts'
import { latestCheckpoint } from './checkpoint.ts'

/** A file in a run's folder, open for appending. All throw UserError where the disk refuses, with the last good checkpoint. */
export class AppendedFile {
  readonly #path: string
  readonly #descriptor: number

  constructor(path: string) {
    this.#path = path
    this.#descriptor = this.#guard(() => openSync(path, 'a'))
  }

  write(content: string | Uint8Array): void {
    this.#guard(() => appendFileSync(this.#descriptor, content))
  }

  /** Waits until what was written is on the disk. */
  sync(): void {
    this.#guard(() => fsyncSync(this.#descriptor))
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  #guard<T>(action: () => T): T {
    try {
      return action()
    } catch (error) {
      const last = latestCheckpoint(dirname(this.#path))?.path
      const good = last === undefined ? 'there is no checkpoint yet' : `the last good checkpoint is ${last}`
      throw new UserError(`${this.#path}: could not be written: ${reason(error)}; ${good}`, { cause: error })
    }
  }
}
