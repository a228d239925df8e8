/**
 * A disk that fills up, for machines where no small file system can be mounted: loaded with --import before a program, it
 * lets every write from number FULL_AT_WRITE on fail as a full disk does, after the first half of its bytes.
 */

import fs from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

let left = Number(process.env.FULL_AT_WRITE)

/** Counts a write; throws where the disk is full, once `half` is written. */
function count(half: () => void): void {
  if (--left > 0) return
  half()
  throw full()
}

function full(): Error {
  return Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
}

const { writeFileSync, appendFileSync, writeSync } = fs

function bytesOf(data: string | NodeJS.ArrayBufferView): Buffer {
  return typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
}

fs.writeFileSync = (file, data, options) => {
  const bytes = bytesOf(data)
  count(() => writeFileSync(file, bytes.subarray(0, bytes.length >> 1), options))
  writeFileSync(file, bytes, options)
}
fs.appendFileSync = (file, data, options) => {
  const bytes = bytesOf(data as string | NodeJS.ArrayBufferView)
  count(() => appendFileSync(file, bytes.subarray(0, bytes.length >> 1), options))
  appendFileSync(file, bytes, options)
}
fs.writeSync = (descriptor: number, ...rest: unknown[]) => {
  // Terminals are no files.
  if (descriptor > 2) count(() => {})
  return (writeSync as (descriptor: number, ...rest: unknown[]) => number)(descriptor, ...rest)
}
syncBuiltinESMExports()

const handle = await open(new URL(import.meta.url))
const methods = Object.getPrototypeOf(handle) as FileHandle
await handle.close()
for (const name of ['write', 'writeFile'] as const) {
  const original = methods[name] as (...args: unknown[]) => Promise<unknown>
  const replaced = async function (this: FileHandle, ...args: unknown[]) {
    if (--left > 0) return original.apply(this, args)
    const bytes = bytesOf(args[0] as string | NodeJS.ArrayBufferView)
    await original.call(this, bytes.subarray(0, bytes.length >> 1))
    throw full()
  }
  Object.assign(methods, { [name]: replaced })
}
