/** The cache of decoded emoji: it is used, never trusted beyond its checksum, and never needed. */

import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { openEmoji } from '../../data/emoji.ts'
import { cacheFolder, readCached, writeCached } from '../../io/cache-node.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-cache-'))
process.env.XDG_CACHE_HOME = root
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

const content = async (): Promise<Uint8Array> => {
  const { length, pixels } = await openEmoji('smileys', 8)
  return Buffer.concat(await Promise.all(Array.from({ length }, (_, i) => pixels(i))))
}
const cachedFiles = () => readdirSync(join(root, 'demask'))
const first = await openEmoji('smileys', 8)
const fresh = await content()

test('the second time pictures, labels and classes come from the file', async () => {
  const [name, ...others] = cachedFiles()
  assert.equal(others, [])
  assert.match(name, /^emoji-2-smileys-8-[0-9a-f]{32}$/)
  assert.equal(await content(), fresh)
  const again = await openEmoji('smileys', 8)
  assert.is(again.length, 169)
  assert.equal(again.classes, first.classes)
  for (let i = 0; i < 169; i++) assert.is(again.label(i), first.label(i))

  // A pixel that only the file can have changed.
  const path = join(root, 'demask', name)
  const file = readFileSync(path)
  const body = file.subarray(32)
  body[body.length - 1] ^= 0xff
  writeFileSync(path, Buffer.concat([createHash('sha256').update(body).digest(), body]))
  const changed = await content()
  assert.is(changed.at(-1), fresh.at(-1)! ^ 0xff)
  assert.equal(changed.subarray(0, -1), fresh.subarray(0, -1))
})

test('a file that is damaged or cut short is written anew', async () => {
  const path = join(root, 'demask', cachedFiles()[0])
  for (const damage of [
    () => writeFileSync(path, readFileSync(path).fill(7, 1000, 1001)),
    () => truncateSync(path, 5000),
    () => truncateSync(path, 0),
  ]) {
    damage()
    assert.equal(await content(), fresh)
    const file = readFileSync(path)
    assert.equal(createHash('sha256').update(file.subarray(32)).digest(), file.subarray(0, 32))
  }
})

test('several writers at once leave one whole file and nothing beside it', async () => {
  const bytes = new Uint8Array(1e6).fill(3)
  await Promise.all(Array.from({ length: 8 }, () => writeCached('shared', bytes)))
  assert.equal(readCached('shared'), Buffer.from(bytes))
  assert.equal(cachedFiles().filter(name => name.startsWith('.tmp')), []) // biome-ignore format: a line
})

test('without a cache that can be written, pictures are decoded', async () => {
  const before = process.env.XDG_CACHE_HOME
  process.env.XDG_CACHE_HOME = join(root, 'demask', cachedFiles()[0]) // a file, in which nothing can be
  try {
    assert.is(readCached('anything'), null)
    assert.equal(await content(), fresh)
  } finally {
    process.env.XDG_CACHE_HOME = before
  }
})

test('the folder is the one that a platform has for caches', () => {
  assert.is(cacheFolder({}, 'linux'), join(homedir(), '.cache/demask'))
  assert.is(cacheFolder({}, 'darwin'), join(homedir(), 'Library/Caches/demask'))
  assert.is(cacheFolder({ LOCALAPPDATA: '/local' }, 'win32'), join('/local', 'demask', 'Cache'))
  assert.is(cacheFolder({ XDG_CACHE_HOME: '/x' }, 'darwin'), join('/x', 'demask'))
})

test.run()
