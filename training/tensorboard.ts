/**
 * TensorBoard's event files: what `tensorboard --logdir runs` shows. Needs Node. An event is a protobuf message of a few
 * fields, written here by hand, in the record format of TFRecord: length, its checksum, message, its checksum
 * (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto). Nothing is kept here that the logs do not
 * have (metrics.ts): a file of events is written anew from them whenever a run resumes.
 */

import { readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { replaceFile } from '../io/replace.ts'
import { AppendedFile } from './append.ts'

/** Step and time of an event, in seconds since 1970. */
interface At {
  readonly step: number
  readonly time: number
}

const ours = /^events\.out\.tfevents\.\d+\.demask$/

/**
 * Opens a file of events in `run` that begins with those given, and removes the files of earlier sessions, which have the
 * same and events after the checkpoint that the run resumes from. Throws UserError where the disk refuses.
 */
export function openEvents(run: string, events: readonly Uint8Array[]): AppendedFile {
  const now = Date.now() / 1000
  // TensorBoard goes through a folder's files in the order of their names, which by custom begin with the time, and
  // through all whose name has `tfevents` in it: so this one gets its name at the end.
  const path = join(run, `events.out.tfevents.${Math.floor(now)}.demask`)
  const aside = join(run, '.tmp-events')
  replaceFile(aside, Buffer.concat([versionEvent(now), startEvent(now), ...events]))
  for (const name of readdirSync(run)) if (ours.test(name)) rmSync(join(run, name))
  renameSync(aside, path)
  return new AppendedFile(path)
}

/** The record of a step's numbers, by name. */
export function scalarsEvent(at: At, scalars: Readonly<Record<string, number>>): Uint8Array {
  const values = Object.entries(scalars).map(([tag, value]) => bytes(1, text(1, tag), float(2, value)))
  return record(when(at), bytes(5, ...values))
}

/** A picture of a step: an encoded PNG of RGB. */
export function imageEvent(at: At, tag: string, png: Buffer): Uint8Array {
  const [width, height] = [16, 20].map(place => png.readUInt32BE(place)) // in the header of every PNG
  const image = bytes(4, integer(1, height), integer(2, width), integer(3, 3), bytes(4, png))
  return record(when(at), bytes(5, bytes(1, text(1, tag), image)))
}

/** The first event of every file. */
function versionEvent(time: number): Uint8Array {
  return record(double(1, time), text(3, 'brain.Event:2'))
}

/** A session begins: what a reader knows of steps from 0 on no longer counts. */
function startEvent(time: number): Uint8Array {
  return record(when({ step: 0, time }), bytes(7, integer(1, 1)))
}

function when({ step, time }: At): Uint8Array {
  return Buffer.concat([double(1, time), integer(2, step)])
}

// ---- protobuf: a field is its number and kind, then its value -------------------------------------------------------

const kinds = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

function head(field: number, kind: keyof typeof kinds): Uint8Array {
  return varint((field << 3) | kinds[kind])
}

/** Seven bits a byte, the lowest first; the top bit says that there are more. */
function varint(value: number): Uint8Array {
  const out: number[] = []
  for (; value > 0x7f; value = Math.floor(value / 128)) out.push((value % 128) | 0x80)
  return Uint8Array.from([...out, value])
}

function integer(field: number, value: number): Uint8Array {
  return Buffer.concat([head(field, 'varint'), varint(value)])
}

function double(field: number, value: number): Uint8Array {
  const out = Buffer.alloc(8)
  out.writeDoubleLE(value)
  return Buffer.concat([head(field, 'fixed64'), out])
}

function float(field: number, value: number): Uint8Array {
  const out = Buffer.alloc(4)
  out.writeFloatLE(value)
  return Buffer.concat([head(field, 'fixed32'), out])
}

/** A message within a message, or plain bytes. */
function bytes(field: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([head(field, 'bytes'), varint(length), ...parts])
}

function text(field: number, value: string): Uint8Array {
  return bytes(field, Buffer.from(value))
}

// ---- TFRecord -------------------------------------------------------------------------------------------------------

/** Length (u64), its checksum, the data, their checksum; all little-endian. */
function record(...fields: readonly Uint8Array[]): Uint8Array {
  const data = Buffer.concat(fields)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(data.length))
  return Buffer.concat([length, checksum(length), data, checksum(data)])
}

/** CRC-32C, rotated and shifted, as a checksum of data that hold checksums of the same kind is weak. */
function checksum(data: Uint8Array): Uint8Array {
  const crc = crc32c(data)
  const out = Buffer.alloc(4)
  out.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0)
  return out
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  return crc
})

/** The Castagnoli checksum (RFC 3720, B.4), an unsigned whole number. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of data) crc = table[(crc ^ byte) & 0xff] ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}
