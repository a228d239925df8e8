/** Event files for TensorBoard, read back by a parser of their own: records, checksums, messages, what resuming leaves. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MetricsLog, writeGrid } from '../../training/index.ts'
import { crc32c } from '../../training/tensorboard.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-events-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

/** CRC-32C bit by bit, from the definition. */
function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes)
    for (let bit = 0; bit < 8; bit++) {
      const out = (crc ^ (byte >> bit)) & 1
      crc = (crc >>> 1) ^ (out === 1 ? 0x82f63b78 : 0)
    }
  return ~crc >>> 0
}

/** The messages of a file, whose checksums are right. */
function records(file: Buffer): Buffer[] {
  const masked = (bytes: Buffer) => {
    const crc = slowCrc(bytes)
    return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
  }
  const out: Buffer[] = []
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at))
    assert.is(file.readUInt32LE(at + 8), masked(file.subarray(at, at + 8)))
    const data = file.subarray(at + 12, at + 12 + length)
    assert.is(file.readUInt32LE(at + 12 + length), masked(data))
    out.push(data)
    at += length + 16
  }
  return out
}

/** A protobuf message by the numbers of its fields. */
function fields(message: Buffer): Map<number, (number | Buffer)[]> {
  const out = new Map<number, (number | Buffer)[]>()
  let at = 0
  const varint = () => {
    let [value, scale] = [0, 1]
    for (; message[at] >= 0x80; scale *= 128) value += (message[at++] & 0x7f) * scale
    return value + message[at++] * scale
  }
  const bytes = (length: number) => {
    at += length
    return message.subarray(at - length, at)
  }
  while (at < message.length) {
    const key = varint()
    const kind = key & 7
    const value =
      kind === 0
        ? varint()
        : kind === 1
          ? bytes(8).readDoubleLE()
          : kind === 5
            ? bytes(4).readFloatLE()
            : bytes(varint())
    out.set(key >> 3, [...(out.get(key >> 3) ?? []), value])
  }
  return out
}

interface Event {
  readonly time: number
  readonly step: number
  readonly version?: string
  readonly restarts: boolean
  readonly scalars: Readonly<Record<string, number>>
  readonly images: readonly { readonly tag: string; readonly size: readonly number[]; readonly png: Buffer }[]
}

function eventOf(message: Buffer): Event {
  const event = fields(message)
  const values = (event.get(5) ?? []).flatMap(summary => fields(summary as Buffer).get(1) ?? [])
  const parsed = values.map(value => fields(value as Buffer))
  const tag = (value: Map<number, (number | Buffer)[]>) => String(value.get(1)![0])
  return {
    time: event.get(1)![0] as number,
    step: (event.get(2)?.[0] ?? 0) as number,
    version: event.get(3)?.[0].toString(),
    restarts: event.has(7) && fields(event.get(7)![0] as Buffer).get(1)![0] === 1,
    scalars: Object.fromEntries(parsed.filter(v => v.has(2)).map(v => [tag(v), v.get(2)![0] as number])),
    images: parsed
      .filter(value => value.has(4))
      .map(value => {
        const image = fields(value.get(4)![0] as Buffer)
        return {
          tag: tag(value),
          size: [1, 2, 3].map(i => image.get(i)![0] as number),
          png: image.get(4)![0] as Buffer,
        }
      }),
  }
}

/** The events of a run, of whose files there is one. */
function eventsOf(run: string): Event[] {
  const names = readdirSync(run).filter(name => name.includes('tfevents'))
  assert.is(names.length, 1, names.join())
  return records(readFileSync(join(run, names[0]))).map(eventOf)
}

test('checksums are those of RFC 3720, and of the definition on any bytes', () => {
  const bytes = (make: (i: number) => number) => Uint8Array.from({ length: 32 }, (_, i) => make(i))
  assert.is(crc32c(bytes(() => 0)), 0x8a9136aa)
  assert.is(crc32c(bytes(() => 0xff)), 0x62a8ab43)
  assert.is(crc32c(bytes(i => i)), 0x46dd794e)
  assert.is(crc32c(bytes(i => 31 - i)), 0x113fdb5c)
  assert.is(crc32c(Buffer.from('123456789')), 0xe3069283)
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), data => crc32c(data) === slowCrc(data)))
})

test('a log is a file of events: numbers of every step, at their time, after a start', () => {
  const run = join(root, 'run')
  const log = new MetricsLog(run, 0)
  const time = 1_700_000_000.25
  log.write({ step: 1, loss: 0.5, lr: 1e-4 }, { step: 1, seconds: 0.1, time })
  log.write({ step: 300, loss: 0.25, lr: 2e-4 }, { step: 300, seconds: 0.1, time: time + 1 })
  log.close()
  const [version, start, ...steps] = eventsOf(run)
  assert.is(version.version, 'brain.Event:2')
  assert.ok(start.restarts && start.step === 0)
  assert.equal(
    steps.map(({ step, time, scalars }) => [step, time, scalars]),
    [
      [1, time, { loss: 0.5, lr: Math.fround(1e-4) }],
      [300, time + 1, { loss: 0.25, lr: Math.fround(2e-4) }],
    ],
  )
})

test('a run that goes on has one file, cut back to its checkpoint, pictures and all', async () => {
  const run = join(root, 'resumed')
  mkdirSync(run)
  const others = join(run, 'events.out.tfevents.1.elsewhere') // a file of another program stays
  const log = new MetricsLog(run, 0)
  for (let step = 1; step <= 6; step++) log.write({ step, loss: 1 / step }, { step, seconds: 1, time: 100 + step })
  const picture = (step: number) => join(run, `samples-0000000${step}.png`)
  for (const step of [2, 5]) {
    await writeGrid(picture(step), new Float32Array(2 * 3 * 4 * 4), [2, 3, 4, 4])
    log.picture(picture(step), step)
  }
  log.close()
  const before = eventsOf(run)
  assert.equal(
    before.flatMap(event => event.images.map(({ tag, size }) => [event.step, tag, size])),
    [2, 5].map(step => [step, 'samples', [4, 9, 3]]),
  )
  writeFileSync(others, 'x')
  const again = new MetricsLog(run, 4)
  again.write({ step: 5, loss: 7 }, { step: 5, seconds: 1, time: 200 })
  again.close()
  assert.is(readFileSync(others, 'utf8'), 'x')
  rmSync(others)
  const events = eventsOf(run)
  assert.equal(
    events.filter(event => 'loss' in event.scalars).map(({ step, time, scalars }) => [step, time, scalars.loss]),
    [
      [1, 101, 1],
      [2, 102, 0.5],
      [3, 103, Math.fround(1 / 3)],
      [4, 104, 0.25],
      [5, 200, 7],
    ],
  )
  const images = events.flatMap(event => event.images.map(image => [event.step, image] as const))
  assert.is(images.length, 1)
  assert.is(images[0][0], 2)
  assert.equal(images[0][1].png, readFileSync(picture(2)))
})

test.run()
