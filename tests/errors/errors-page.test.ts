/** docs/errors.md, which is made from the source and from what tests recorded, has every message as the source has it now. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { read, root } from '../repo/markdown.ts'
import { messages, messagesOf } from './messages.ts'
import { distinct, errorsPage, examplesIn, examplesOf, keyOf, whyNot } from './page.ts'

const all = distinct(messages())
const page = read('docs/errors.md')
const examples = examplesOf(page)

test('the page is that of the source', () => {
  const [committed, now] = [page, errorsPage(examples)].map(text => text.split('\n'))
  for (const [i, line] of now.entries())
    assert.is(committed[i], line, 'npx tsx tests/errors/page.ts writes it anew; --record finds examples')
  assert.is(committed.length, now.length)
})

test('every message has an example that a test gave, or the reason why there is none', () => {
  for (const message of all) {
    const example = examples.get(keyOf(message))
    if (example === undefined) {
      assert.ok(whyNot(message), `${keyOf(message)}: npx tsx tests/errors/page.ts --record TEST`)
      continue
    }
    assert.match(example.text, message.pattern)
    assert.ok(existsSync(join(root, example.test)), example.test)
  }
  assert.ok(examples.size > 300, `${examples.size} examples`)
})

test('messages are one line that begins with what and says what was wanted, or what is wrong', () => {
  for (const { template, file } of all) {
    assert.not.match(template, /\n/, file)
    assert.not.match(template, /[.!]$/, `${file}: ${template}`)
  }
})

const source = `class Reader {
  #fail(problem: string): never {
    throw new RangeError(\`\${this.#where}: \${problem}\`)
  }
  read(n: number) {
    if (n > 1) this.#fail(\`expected 1, got \${n}\`)
    if (n < 0) throw new Error('no ' + 'number')
  }
}
`

test('messages are found in the source, by who has them said', () => {
  const found = messagesOf('a.ts', source)
  assert.equal(
    found.map(({ within, kind, template, lines }) => [within, kind, template, lines]),
    [
      ['Reader.read', 'RangeError', '{this.#where}: expected 1, got {n}', [6, 6]],
      ['Reader.read', 'Error', 'no number', [7, 7]],
    ],
  )
  assert.match('x.bin: expected 1, got 3', found[0].pattern)
  assert.not.match('x.bin: expected 2, got 3', found[0].pattern)
})

test('what was recorded goes to the message whose lines it came from and whose words it has', () => {
  const found = messagesOf('a.ts', source)
  const recorded = [
    {
      test: 'tests/a.test.ts',
      message: 'x: expected 1, got 3',
      places: [
        { file: 'a.ts', line: 3 },
        { file: 'a.ts', line: 6 },
      ],
    },
    { test: 'tests/a.test.ts', message: 'no numbers', places: [{ file: 'a.ts', line: 7 }] },
    { test: 'tests/a.test.ts', message: 'no number', places: [{ file: 'b.ts', line: 7 }] },
  ]
  assert.equal(
    [...examplesIn(recorded, found)],
    [[keyOf(found[0]), { text: 'x: expected 1, got 3', test: 'tests/a.test.ts' }]],
  )
})

test.run()
