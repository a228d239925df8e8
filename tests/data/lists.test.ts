/** Lists of pictures: CSV by its rules, paths relative to the list, and one clear line for each kind of bad row. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { csvRecords } from '../../data/csv.ts'
import { openDataset } from '../../data/index.ts'
import { UserError } from '../../io/user-error.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-lists-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const at = (name: string) => join(folder, name)

test.before(async () => {
  mkdirSync(at('pictures'))
  for (const [name, background] of Object.entries({ 'a.png': 'red', 'b.png': 'lime', 'c.webp': 'blue' }))
    await sharp({ create: { width: 4, height: 4, channels: 3, background } })
      .toFormat(name.endsWith('.webp') ? 'webp' : 'png', { lossless: true })
      .toFile(at(`pictures/${name}`))
  writeFileSync(at('pictures/broken.png'), 'no picture')
})

const fieldsOf = (text: string) => [...csvRecords(text, 'f')].map(({ fields }) => fields)

test('what CSV can hold comes back as it was, whatever is quoted and however lines end', () => {
  const field = fc.string({ unit: fc.constantFrom('a', 'é', ' ', ',', '"', '\n', '\r', '😀'), maxLength: 6 })
  const records = fc.array(fc.array(field, { minLength: 1, maxLength: 4 }), { maxLength: 5 })
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`
  fc.assert(
    fc.property(records, fc.constantFrom('\n', '\r\n', '\r'), fc.boolean(), fc.boolean(), (rows, end, last, always) => {
      const kept = rows.filter(row => row.length > 1 || row[0] !== '') // an empty line is no record
      const line = (row: readonly string[]) =>
        row.map(text => (always || /[",\r\n]/.test(text) ? quoted(text) : text)).join(',')
      const text = kept.map(line).join(end) + (last ? end : '')
      assert.equal(fieldsOf(text), kept)
    }),
  )
})

test('a record has the number of its first line', () => {
  const lines = [...csvRecords('a\n\n"b\r\nc",d\r\ne', 'f')].map(({ line }) => line)
  assert.equal(lines, [1, 3, 5])
  assert.equal(fieldsOf('a,\n,b'), [
    ['a', ''],
    ['', 'b'],
  ])
})

test('pictures of a list, relative to it, with classes; missing and broken ones are left out', async () => {
  const csv = at('set.csv')
  writeFileSync(
    csv,
    [
      'path,label',
      'pictures/b.png,dog',
      `${at('pictures/a.png')},cat`,
      'pictures/nowhere.png,cat',
      'pictures/broken.png,dog',
      'pictures/c.webp,cat',
    ].join('\n'),
  )
  const lines: string[] = []
  const set = await openDataset(csv, 4, { report: line => lines.push(line) })
  assert.equal([set.name, set.length, set.classes, set.flips], [csv, 3, ['cat', 'dog'], true])
  assert.equal([0, 1, 2].map(set.label), [1, 0, 0])
  const colours = await Promise.all([0, 1, 2].map(async i => [...(await set.pixels(i))].filter((_, k) => k % 16 === 0)))
  assert.equal(colours, [
    [0, 255, 0],
    [255, 0, 0],
    [0, 0, 255],
  ])
  assert.is(lines.length, 2)
  assert.match(lines[0], /nowhere\.png: expected a picture, got one that cannot be read: no such file or folder$/)
  assert.match(lines[1], /broken\.png: expected a picture/)
  const strict = await openDataset(csv, 4, { strict: true }).catch((error: Error) => error)
  assert.match((strict as Error).message, /nowhere\.png: expected a picture/)
})

test('a row that is not as the others are is one line', async () => {
  const cases: readonly (readonly [name: string, text: string | Uint8Array, wanted: RegExp])[] = [
    ['none.csv', '', /none\.csv: expected a picture in each row, got no rows$/],
    ['none.jsonl', '\n', /none\.jsonl: expected a picture in each row, got no rows$/],
    ['a.csv', 'path,label\na.png\n', /a\.csv:2: expected 2 fields, as the first row has, got 1$/],
    ['a.csv', 'path,label\na.png,\n', /a\.csv:2: expected a label, got none$/],
    ['a.csv', 'path,label\n,cat\n', /a\.csv:2: expected the path of a picture, got none$/],
    ['a.csv', 'a.png,cat,dog\n', /a\.csv:1: expected a header with 'path' and 'label', or .*, got a\.png, cat, dog$/],
    ['a.csv', 'a.png,"cat\n', /a\.csv:1: expected a quote that ends the field, got the end of the file$/],
    ['a.csv', 'a.png,"cat"s\n', /a\.csv:1: expected a comma after the quote that ends a field, got 's'$/],
    ['a.csv', 'a.png,ca"t"\n', /a\.csv:1: expected quotes around a whole field, got one within 'ca"'$/],
    ['a.csv', Uint8Array.of(0xff, 0x31), /a\.csv: expected a list of pictures: it is not UTF-8$/],
    ['a.jsonl', '{"path":"a.png"}\n{"path":', /a\.jsonl:2: expected a JSON object: /],
    ['a.jsonl', '["a.png"]', /a\.jsonl:1: expected a JSON object, got \["a\.png"\]$/],
    ['a.jsonl', '{"image":"a.png"}', /a\.jsonl:1: expected the path of a picture as "path", got none$/],
    ['a.jsonl', '{"path":"a.png","label":1.5}', /a\.jsonl:1: expected a label of text or a whole number, got 1\.5$/],
    [
      'a.jsonl',
      '{"path":"a.png"}\n{"path":"b.png","label":"x"}',
      /a\.jsonl:2: expected no label, as in line 1, got x$/,
    ],
    ['a.jsonl', '{"path":"nowhere.png"}', /a\.jsonl: expected pictures, got 1 that cannot be read$/],
  ]
  for (const [name, text, wanted] of cases) {
    writeFileSync(at(name), text)
    const error = await openDataset(at(name), 4, { report: () => {} }).catch((error: Error) => error)
    assert.instance(error, UserError, String(wanted))
    assert.match((error as Error).message, wanted)
    assert.not.match((error as Error).message, /\n/)
  }
  const missing = await openDataset(at('missing.csv'), 4).catch((error: Error) => error)
  assert.match((missing as Error).message, /missing\.csv: expected a list of pictures: no such file or folder$/)
})

test.run()
