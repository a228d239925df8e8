/** Comments and pages in the field's words: phrases that have to be decoded are refused. Needs Node and git. */

import { execFileSync } from 'node:child_process'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { read, root } from './markdown.ts'

/** Phrases, and the way to say it instead. */
const phrases: readonly (readonly [RegExp, string])[] = [
  [/^(?:What|Whether|That of|Those of|How (?:many|much|a|the))\b(?!.*\?)/, 'open with a verb or the noun'],
  [/\b(?:is|are|was|were|as|unless|be) (?:said|told)\b|\bsays so\b/, 'name the setting or the message'],
  [/\b(?:go|goes|going|gone|went) on\b(?! the)/, 'resume, continue, run'],
  [/\blets? go\b/, 'free, release'],
  [/\bnobody\b/i, 'name who, or use the passive'],
  [/\bso (?:many|much)\b/, 'name the number'],
  [/\bwhat (?:lies|came|comes|becomes)\b/i, 'name the thing: intermediates, the result'],
  [/\bgives way\b|\btakes? apart\b|\bis brought to\b/, 'say what is computed'],
  [/\bbut for\b|\bfor want of\b|\bfor lack of\b/, 'except, without'],
]

const files = execFileSync('git', ['ls-files', '*.ts', '*.md', '*.vue'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  // Pages that are made of messages and docstrings, records, and this list itself.
  .filter(file => file !== '' && !/^tests\/(fixtures|repo\/words)|^docs\/(errors|ops)\.md|history\//.test(file))

/** The prose of a line: a Markdown line outside of code, or a comment. */
function proseOf(line: string, isPage: boolean): string {
  if (isPage) return line
  const comment = /^\s*(?:\/\*\*?|\*(?!\/)|\/\/)\s?(.*)$/.exec(line) ?? /\s\/\/ (.*)$/.exec(line)
  return comment?.[1] ?? ''
}

test('comments and pages avoid phrases that have to be decoded', () => {
  const found: string[] = []
  for (const file of files) {
    const isPage = file.endsWith('.md')
    let inCode = false
    read(file)
      .split('\n')
      .forEach((line, i) => {
        if (/^\s*```/.test(line)) inCode = !inCode
        if (isPage && inCode) return
        const prose = proseOf(line, isPage).trim()
        const [, advice] = phrases.find(([phrase]) => phrase.test(prose)) ?? []
        if (advice !== undefined) found.push(`${file}:${i + 1}: ${prose.slice(0, 100)} (${advice})`)
      })
  }
  assert.equal(found, [])
})

test.run()
