/** ZIP containers for tests, right ones and wrong ones: every field can be claimed to be something else. */

import { crc32 } from 'node:zlib'

export interface ZipPart {
  readonly name: string
  readonly data: Uint8Array
  /** False entries of the directory. */
  readonly claims?: Partial<Record<'method' | 'flags' | 'crc' | 'stored' | 'size' | 'offset', number>>
}

/**
 * The bytes of a container. `at` is where in a file they are going to be, with every offset as ZIP64; `entries`, what the
 * end says of the number of parts.
 */
export function zipOf(parts: readonly ZipPart[], { at = 0, entries = parts.length } = {}): Buffer {
  const local: Buffer[] = []
  const directory: Buffer[] = []
  let position = at
  for (const { name, data, claims = {} } of parts) {
    const { method = 0, flags = 0x800, crc = crc32(data), stored = data.length, size = data.length } = claims
    const text = Buffer.from(name)
    const common = Buffer.alloc(26)
    common.writeUInt16LE(45, 0)
    common.writeUInt16LE(flags, 2)
    common.writeUInt16LE(method, 4)
    common.writeUInt32LE(crc, 10)
    common.writeUInt32LE(0xffffffff, 14)
    common.writeUInt32LE(0xffffffff, 18)
    common.writeUInt16LE(text.length, 22)
    const extra = Buffer.alloc(28)
    extra.writeUInt16LE(1, 0)
    extra.writeUInt16LE(24, 2)
    extra.writeBigUInt64LE(BigInt(size), 4)
    extra.writeBigUInt64LE(BigInt(stored), 12)
    extra.writeBigUInt64LE(BigInt(claims.offset ?? position), 20)
    common.writeUInt16LE(extra.length, 24)
    const header = Buffer.concat([Buffer.from('PK\x03\x04'), common, text, extra, data])
    const rest = Buffer.alloc(14)
    rest.writeUInt32LE(0xffffffff, 10)
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([45, 0]), common, rest, text, extra]))
    local.push(header)
    position += header.length
  }
  const listed = Buffer.concat(directory)
  const end64 = Buffer.alloc(56)
  end64.write('PK\x06\x06', 0, 'latin1')
  end64.writeBigUInt64LE(44n, 4)
  end64.writeBigUInt64LE(BigInt(entries), 24)
  end64.writeBigUInt64LE(BigInt(entries), 32)
  end64.writeBigUInt64LE(BigInt(listed.length), 40)
  end64.writeBigUInt64LE(BigInt(position), 48)
  const locator = Buffer.alloc(20)
  locator.write('PK\x06\x07', 0, 'latin1')
  locator.writeBigUInt64LE(BigInt(position + listed.length), 8)
  locator.writeUInt32LE(1, 16)
  const end = Buffer.alloc(22, 0xff)
  end.write('PK\x05\x06', 0, 'latin1')
  end.fill(0, 4, 8)
  end.fill(0, 20)
  return Buffer.concat([...local, listed, end64, locator, end])
}
