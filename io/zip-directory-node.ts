/**
 * The directory of a ZIP container, as yauzl reads it. Needs Node. zip-node.ts loads this file when a container is opened.
 */

import { readSync } from 'node:fs'
import { fromRandomAccessReaderPromise, RandomAccessReader, type ZipFile } from 'yauzl'

/** Opens the directory of a container in an open file. Rejects on one that is damaged. */
export function openDirectory(descriptor: number, size: number): Promise<ZipFile> {
  const options = { lazyEntries: true, autoClose: false, strictFileNames: true }
  return fromRandomAccessReaderPromise(new Reader(descriptor, size), size, options)
}

/** Reader for yauzl. Its own one throws an uncatchable error for an offset beyond the file. */
class Reader extends RandomAccessReader {
  readonly #descriptor: number
  readonly #size: number

  constructor(descriptor: number, size: number) {
    super()
    this.#descriptor = descriptor
    this.#size = size
  }

  override read(bytes: Buffer, offset: number, length: number, position: number, done: Done): void {
    let error: Error | null = null
    if (!(position >= 0 && position + length <= this.#size))
      error = new Error(`it leads to ${length} bytes at ${position}, outside of ${this.#size}`)
    else
      try {
        if (readSync(this.#descriptor, bytes, offset, length, position) < length) error = new Error('it shrank')
      } catch (thrown) {
        error = thrown as Error
      }
    setImmediate(done, error)
  }
}

type Done = (error: Error | null) => void
