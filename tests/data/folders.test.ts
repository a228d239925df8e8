/** Folders as people have them: nested classes, other files among the pictures, names of any bytes, links, pipes. */

import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type OpenOptions, openDataset } from '../../data/index.ts'
import { UserError } from '../../io/user-error.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-folders-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))

const png = await sharp({ create: { width: 4, height: 4, channels: 3, background: 'red' } })
  .png()
  .toBuffer()

/** A new folder with these files, each the red picture or other bytes. */
function folderOf(files: readonly (string | readonly [string, Uint8Array])[]): string {
  const folder = mkdtempSync(join(root, 'set-'))
  for (const file of files) {
    const [name, bytes] = typeof file === 'string' ? [file, png] : file
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), bytes)
  }
  return folder
}

/** Pictures of each class in order, and the reported lines without the folder's name. */
async function seen(folder: string, options: OpenOptions = {}) {
  const lines: string[] = []
  const set = await openDataset(folder, 4, { ...options, report: line => lines.push(line.replace(`${folder}: `, '')) })
  const counts = set.classes.map((name, label) => {
    return `${name} ${Array.from({ length: set.length }, (_, i) => set.label(i)).filter(each => each === label).length}`
  })
  for (let i = 0; i < set.length; i++) assert.is((await set.pixels(i)).length, 48)
  return { counts, lines }
}

test('classes are the first level, pictures lie at any depth', async () => {
  const folder = folderOf(['cat/2020/a.png', 'cat/2021/x/b.png', 'dog/0.png', 'dog/more/1.png', 'dog/more/2.PNG'])
  assert.equal(await seen(folder), { counts: ['cat 2', 'dog 3'], lines: [] })
})

test('hidden folders are left out and counted, files that systems add are passed over', async () => {
  const folder = folderOf([
    'cat/1.png',
    'cat/._1.png',
    'cat/Thumbs.db',
    'dog/2.png',
    'dog/.ipynb_checkpoints/2-checkpoint.png',
    '.ipynb_checkpoints/1-checkpoint.png',
    '__MACOSX/cat/._1.png',
    '.DS_Store',
  ])
  const { counts, lines } = await seen(folder)
  assert.equal(counts, ['cat 1', 'dog 1'])
  assert.is(lines.length, 1)
  assert.is(lines[0], "left out: 2 hidden folders ('.ipynb_checkpoints', '.ipynb_checkpoints')")
  const flat = folderOf(['0.png', '1.png', '__MACOSX/._0.png', '._0.png', 'Thumbs.db'])
  assert.equal((await seen(flat)).lines, [])
})

test('every format that sharp decodes is read, a GIF by its first frame; others are counted', async () => {
  const encode = (format: 'gif' | 'tiff' | 'avif' | 'jpeg' | 'webp') => sharp(png).toFormat(format).toBuffer()
  const frames = await sharp(Buffer.concat([Buffer.alloc(48, 255), Buffer.alloc(48, 0)]), {
    raw: { width: 4, height: 8, channels: 3, pageHeight: 4 },
  })
    .gif()
    .toBuffer()
  assert.is((await sharp(frames).metadata()).pages, 2)
  const folder = folderOf([
    ['0.gif', frames],
    ['1.gif', await encode('gif')],
    ['2.tif', await encode('tiff')],
    ['3.TIFF', await encode('tiff')],
    ['4.jfif', await encode('jpeg')],
    ['5.avif', await encode('avif')],
    ['6.JPE', await encode('jpeg')],
    ['7.bmp', Uint8Array.of(66, 77)],
    ['8.BMP', Uint8Array.of(66, 77)],
    ['README', Buffer.from('words')],
  ])
  const { counts, lines } = await seen(folder)
  assert.match(counts[0], / 7$/)
  assert.equal(lines, ["left out: 2 .bmp, 1 file without an extension ('README')"])
  const first = await (await openDataset(folder, 4, { report: () => {} })).pixels(0)
  assert.equal([...new Set(first)], [255])
  const none = folderOf([['1.bmp', Uint8Array.of(66, 77)]])
  const error = await openDataset(none, 4).catch((thrown: Error) => thrown)
  assert.instance(error, UserError)
  assert.match((error as Error).message, /or class folders of pictures, got none; left out: 1 \.bmp$/)
})

test('links are followed; loops and broken links are counted', async () => {
  const folder = folderOf(['cat/1.png', 'cat/2.png', 'dog/3.png'])
  const other = folderOf(['4.png'])
  symlinkSync(other, join(folder, 'eel'))
  symlinkSync('self', join(folder, 'self'))
  symlinkSync('nowhere.png', join(folder, 'cat/dangling.png'))
  symlinkSync('..', join(folder, 'cat/up'))
  symlinkSync('.', join(folder, 'dog/here'))
  symlinkSync('1.png', join(folder, 'cat/same.png'))
  const { counts, lines } = await seen(folder)
  assert.equal(counts, ['cat 3', 'dog 1', 'eel 1'])
  assert.is(lines.length, 1)
  assert.match(lines[0], /2 broken links \('self', 'dangling\.png'\)/)
  assert.match(lines[0], /2 links to a folder that was read \('up', 'here'\)/)
})

test('names that are not UTF-8 are shown escaped, and read', async () => {
  const folder = folderOf(['ok/0.png'])
  const latin = Buffer.concat([Buffer.from(`${folder}/grün caf`), Buffer.from([0xe9])])
  mkdirSync(latin)
  writeFileSync(Buffer.concat([latin, Buffer.from('/'), Buffer.from([0xff, 0x31]), Buffer.from('.png')]), png)
  writeFileSync(Buffer.concat([latin, Buffer.from('/'), Buffer.from([0xfe]), Buffer.from('.png')]), 'no picture')
  const { counts, lines } = await seen(folder)
  assert.equal(counts, ['grün caf\\xe9 1', 'ok 1'])
  assert.is(lines.length, 1)
  assert.match(lines[0], /grün caf\\xe9\/\\xfe\.png: expected a picture, got one that cannot be read/)
})

test('pipes are never opened, empty files and files without permission are said', async () => {
  const folder = folderOf(['0.png', ['1.png', new Uint8Array(0)]])
  assert.is(spawnSync('mkfifo', [join(folder, '2.png')]).status, 0)
  symlinkSync('/dev/zero', join(folder, '3.png'))
  const { counts, lines } = await seen(folder)
  assert.match(counts[0], / 1$/)
  assert.is(lines.length, 2)
  assert.is(lines[0], "left out: 2 special files ('2.png', '3.png')")
  assert.match(lines[1], /1\.png: expected a picture, got one that cannot be read: the file is empty$/)

  const closed = folderOf(['a/0.png', 'a/1.png', 'b/2.png', 'lost+found/x.png'])
  chmodSync(join(closed, 'a/1.png'), 0)
  chmodSync(join(closed, 'lost+found'), 0)
  for (const path of [root, closed, join(closed, 'a'), join(closed, 'b')]) chmodSync(path, 0o755)
  if (process.getuid?.() === 0) process.seteuid!(65534) // root may read everything
  try {
    const { counts, lines } = await seen(closed)
    assert.equal(counts, ['a 1', 'b 1'])
    assert.match(lines[0], /1 folder that cannot be read, no permission \('lost\+found'\)/)
    assert.match(lines[1], /a\/1\.png: expected a picture, got one that cannot be read: no permission$/)
  } finally {
    if (process.getuid?.() === 0) process.seteuid!(0)
    chmodSync(join(closed, 'lost+found'), 0o755)
  }
})

test('splits above the classes get a hint; classes without readable pictures do not vanish silently', async () => {
  const folder = folderOf(['train/cat/1.png', 'val/cat/2.png'])
  const { counts, lines } = await seen(folder)
  assert.equal(counts, ['train 1', 'val 1'])
  assert.equal(lines, [`its classes are train, val: pass ${folder}/train for the classes below`])
  const bad = folderOf(['cat/1.png', ['dog/2.png', Buffer.from('no picture')]])
  mkdirSync(join(bad, 'eel'))
  const said = await seen(bad)
  assert.equal(said.counts, ['cat 1', 'dog 0'])
  assert.is(said.lines[0], "left out: 1 folder without pictures ('eel')")
  assert.is(said.lines[2], "class 'dog' has no picture that can be read")
})

test('classes as prefixes of file names', async () => {
  const folder = folderOf(['dog_2.png', 'cat_001.png', 'more/cat_002_x.png'])
  assert.equal((await seen(folder, { classFrom: 'prefix' })).counts, ['cat 2', 'dog 1'])
  writeFileSync(join(folder, 'other.png'), png)
  const error = await openDataset(folder, 4, { classFrom: 'prefix' }).catch((thrown: Error) => thrown)
  assert.match((error as Error).message, /expected names as cat_1\.png, with a class before '_', got 'other\.png'$/)
  for (const spec of ['emoji', 'emoji:smileys', 'cifar10:folder', join(folder, 'dog_2.png')]) {
    const refused = await openDataset(spec, 4, { classFrom: 'prefix' }).catch((thrown: Error) => thrown)
    assert.instance(refused, UserError)
    assert.is((refused as Error).message, `--class-from: expected a folder of pictures for 'prefix', got ${spec}`)
  }
})

test.run()
