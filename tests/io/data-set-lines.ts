/** The lines of docs/formats.md about data sets: an assertion by the first cell of each. Needs Node. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import sharp from 'sharp'
import * as assert from 'uvu/assert'
import { type OpenOptions, openDataset } from '../../data/index.ts'
import { encodeNpyHeader } from '../../io/npy.ts'
import { type NpzSource, writeNpz } from '../../io/npz.ts'
import { zipOf } from './zip.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-data-formats-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
let files = 0
const fresh = (name: string) => {
  const path = join(folder, String(files++), name)
  mkdirSync(dirname(path), { recursive: true })
  return path
}

/** A PNG of 2 × 2 pixels of one grey. */
const png = (grey: number) =>
  sharp(new Uint8Array(12).fill(grey), { raw: { width: 2, height: 2, channels: 3 } })
    .png()
    .toBuffer()

/** The first value of every picture of a set, with its class, and the lines that were reported. */
async function opened(spec: string, options: OpenOptions = {}): Promise<{ seen: string[]; lines: string[] }> {
  const lines: string[] = []
  const set = await openDataset(spec, 2, { ...options, report: line => lines.push(line) })
  const seen: string[] = []
  for (let i = 0; i < set.length; i++) seen.push(`${set.classes[set.label(i)]} ${(await set.pixels(i))[0]}`)
  return { seen, lines }
}

async function folderOf(names: readonly string[]): Promise<string> {
  const path = fresh('pets')
  for (const [i, name] of names.entries()) {
    mkdirSync(dirname(join(path, name)), { recursive: true })
    writeFileSync(join(path, name), await png(10 * i))
  }
  return path
}

/** Two pictures of 2 × 2 by an array of numbers: the first value of the second one is 7, or 7 / 255. */
async function array(shape: readonly number[], { dtype = 'U8' as const, scale = 1, low = 0 } = {}): Promise<string> {
  const size = shape.reduce((product, n) => product * n)
  const data = Array.from({ length: size }, (_, i) => low + (i === size / 2 ? 7 : i === 0 ? 0 : 255) * scale)
  const path = fresh('a.npz')
  const source: NpzSource = { dtype: scale === 1 ? dtype : 'F32', shape, data }
  await writeNpz(path, new Map([['arr_0', source]]))
  return path
}

const bigEndian = (...values: number[]) => values.flatMap(v => [v >>> 24, (v >>> 16) & 255, (v >>> 8) & 255, v & 255])
const idxImages = Uint8Array.from([...bigEndian(0x803, 2, 2, 2), 0, 1, 2, 3, 7, 7, 7, 7])
const idxLabels = Uint8Array.from([...bigEndian(0x801, 2), 0, 1])

export const dataSetLines: Readonly<Record<string, () => Promise<unknown>>> = {
  'folder of folders': async () => {
    const path = await folderOf(['dog/1.png', 'cat/2020/1.png', 'cat/2021/1.png', 'notes.txt'])
    const { seen, lines } = await opened(path)
    assert.equal(seen, ['cat 10', 'cat 20', 'dog 0'])
    assert.equal(lines, [`${path}: left out: 1 .txt`])
  },
  'folder of pictures': async () => assert.equal((await opened(await folderOf(['1.png']))).seen, ['pets 0']),
  'folder, `--class-from prefix`': async () => {
    const path = await folderOf(['dog_1.png', 'more/cat_001.png'])
    assert.equal((await opened(path, { classFrom: 'prefix' })).seen, ['cat 10', 'dog 0'])
  },
  '`.npz` of ADM': async () => {
    const path = fresh('adm.npz')
    const arr_0 = { dtype: 'U8', shape: [2, 2, 2, 3], data: Array.from({ length: 24 }, (_, i) => i) } as const
    await writeNpz(path, new Map<string, NpzSource>([['arr_0', arr_0]]))
    assert.equal((await opened(path)).seen, ['pictures 0', 'pictures 12'])
    const arr_1 = { dtype: 'I64', shape: [2], data: [2, 0] } as const
    await writeNpz(path, new Map<string, NpzSource>([...Object.entries({ arr_0, arr_1 })]))
    assert.equal((await opened(`npz:${path}`)).seen, ['2 0', '0 12'])
  },
  '`.npz`, grey or channels first': async () => {
    for (const shape of [
      [2, 2, 2],
      [2, 2, 2, 1],
      [2, 1, 2, 2],
      [2, 3, 2, 2],
    ])
      assert.equal((await opened(await array(shape))).seen, ['pictures 0', 'pictures 7'], `${shape}`)
  },
  '`.npz` of floats': async () => {
    for (const [low, scale, range] of [
      [0, 1 / 255, '0 to 1'],
      [-1, 2 / 255, '-1 to 1'],
    ] as const) {
      const { seen, lines } = await opened(await array([2, 2, 2, 3], { low, scale }))
      assert.equal(seen, ['pictures 0', 'pictures 7'])
      assert.match(lines.join(), new RegExp(`are taken as ${range}$`))
    }
  },
  '`.npy`': async () => {
    const path = fresh('a.npy')
    const header = Buffer.from(encodeNpyHeader('U8', [2, 2, 2, 3]))
    const bytes = Uint8Array.from({ length: 24 }, (_, i) => i)
    writeFileSync(path, Buffer.concat([header, bytes]))
    assert.equal((await opened(path)).seen, ['pictures 0', 'pictures 12'])
    assert.equal((await opened(`npz:${path}`)).seen, ['pictures 0', 'pictures 12'])
    // The same picture numbers, where the first axis changes first.
    const text = header.toString('latin1').replace('False', 'True ')
    const columns = Uint8Array.from({ length: 24 }, (_, i) => (i % 2 === 1 ? 12 : 0))
    writeFileSync(path, Buffer.concat([Buffer.from(text, 'latin1'), columns]))
    assert.equal((await opened(path)).seen, ['pictures 0', 'pictures 12'])
  },
  'ZIP of pictures': async () => {
    const path = fresh('edm.zip')
    const pictures = [
      { name: '00000/img1.png', data: await png(30) },
      { name: '00000/img0.png', data: await png(20) },
    ]
    writeFileSync(path, zipOf(pictures))
    assert.equal((await opened(path)).seen, ['edm 20', 'edm 30'])
    const labels = { labels: pictures.map(({ name }, i) => [name, i]) }
    writeFileSync(path, zipOf([...pictures, { name: 'dataset.json', data: Buffer.from(JSON.stringify(labels)) }]))
    assert.equal((await opened(`zip:${path}`)).seen, ['1 20', '0 30'])
  },
  'CIFAR-10, CIFAR-100': async () => {
    const path = fresh('test_batch.bin')
    writeFileSync(
      path,
      Uint8Array.from({ length: 3073 }, (_, i) => (i === 0 ? 4 : 90)),
    )
    assert.equal((await opened(`cifar10:${path}`)).seen, ['4 90'])
    writeFileSync(
      path,
      Uint8Array.from({ length: 3074 }, (_, i) => (i === 1 ? 99 : 9)),
    )
    assert.equal((await opened(`cifar100:${path}`)).seen, ['99 9'])
  },
  'IDX, as MNIST': async () => {
    const images = fresh('train-images-idx3-ubyte')
    writeFileSync(images, idxImages)
    assert.equal((await opened(`idx:${images}`)).seen, ['train-images-idx3-ubyte 0', 'train-images-idx3-ubyte 7'])
    writeFileSync(join(dirname(images), 'train-labels-idx1-ubyte.gz'), gzipSync(idxLabels))
    assert.equal((await opened(`mnist:${dirname(images)}`)).seen, ['0 0', '1 7'])
  },
  emoji: async () => {
    const set = await openDataset('emoji:smileys', 8)
    assert.equal([set.length, set.classes.length], [169, 16])
  },
}
