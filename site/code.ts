/**
 * Writes the code that pages show into their Markdown, so that they are complete on GitHub. A page asks for a piece of the
 * source between two comments,
 *
 *     <!-- code core/op.ts#apply from "const shape" to "return y" -->
 *     <!-- end -->
 *
 * and gets a link to its first line and the lines themselves. Without `from` and `to` it is the whole declaration with its
 * docstring (regions.ts); with them it begins and ends at the first lines that contain these texts. Without a name it is the
 * file. Tables of computed numbers are written the same way: `<!-- numbers NAME -->` (figures/numbers.ts). A test fails if a page and the source
 * differ. Needs Node. Run: npm run docs:code.
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { numbers } from './figures/numbers.ts'
import { type Region, region, root } from './regions.ts'

const codeBlock = /^<!-- code ([\w./-]+)(?:#([\w.$-]+))?(?: from "(.+?)")?(?: to "(.+?)")? -->\n.*?^<!-- end -->$/gms
const numbersBlock = /^<!-- numbers ([\w-]+) -->\n.*?^<!-- end -->$/gms

/** A page below docs/ with current code and numbers between its comments. Throws if a piece or a table is missing. */
export function withCode(markdown: string, page: string): string {
  return markdown
    .replace(codeBlock, (whole, path: string, name?: string, from?: string, to?: string) => {
      const { line, text } = excerpt(name === undefined ? wholeFile(path) : region(path, name), from, to)
      const [open] = whole.split('\n')
      const link = `[${path}:${line}](${relative(dirname(page), path)}#L${line})`
      return `${open}\n${link}\n\n\`\`\`ts\n${text}\n\`\`\`\n<!-- end -->`
    })
    .replace(numbersBlock, (whole, name: string) => {
      const table = numbers[name]
      if (table === undefined) throw new Error(`${page}: expected numbers of figures/numbers.ts, got '${name}'`)
      return `${whole.split('\n')[0]}\n\n${table()}\n\n<!-- end -->`
    })
}

/** A page without the code that is written into it; line numbers stay. */
export function withoutCode(markdown: string): string {
  return markdown.replace(codeBlock, block => block.replace(/[^\n]/g, ''))
}

/** Code blocks that are written into a page, for tests: their path and lines. */
export function codeOf(markdown: string): { readonly path: string; readonly lines: readonly string[] }[] {
  return [...markdown.matchAll(codeBlock)].map(([block, path]) => {
    const lines = block.split('\n')
    return { path, lines: lines.slice(lines.indexOf('```ts') + 1, lines.lastIndexOf('```')) }
  })
}

function wholeFile(path: string): Region {
  return { line: 1, text: readFileSync(join(root, path), 'utf8') }
}

/** Lines of a region from the first that contains `from` to the next that contains `to`, without common indentation. */
function excerpt({ line, text }: Region, from = '', to?: string): Region {
  const lines = text.split('\n')
  const start = lines.findIndex(each => each.includes(from))
  if (start < 0) throw new Error(`expected a line with '${from}' in: ${lines[0]}`)
  const end = to === undefined ? lines.length - 1 : lines.findIndex((each, i) => i >= start && each.includes(to))
  if (end < 0) throw new Error(`expected a line with '${to}' after '${from}' in: ${lines[0]}`)
  const chosen = lines.slice(start, end + 1)
  const indents = chosen.filter(each => each !== '').map(each => /^ */.exec(each)![0].length)
  const indent = Math.min(...indents)
  return { line: line + start, text: chosen.flatMap(each => narrowed(each.slice(indent))).join('\n') }
}

/** Columns of code that a page shows without scrolling. */
export const columns = 100

/** A line of code with its comment on lines of its own, or a comment on several lines, if it is wider than a page. */
function narrowed(line: string): string[] {
  if (line.length <= columns) return [line]
  const [, open, words] = /^( *(?:\/\*\*|\*|\/\/) )(.*)$/.exec(line) ?? []
  if (open !== undefined) return wrapped(words, open, open.replace('/**', ' *'))
  const [, code, comment] = /^(.*\S) \/\/ (.*)$/.exec(line) ?? []
  if (code === undefined) return [line]
  const mark = `${/^ */.exec(code)![0]}// `
  return [...wrapped(comment, mark, mark), code]
}

/** Words in lines that fit, the first after `open`, the others after `more`. */
function wrapped(words: string, open: string, more: string): string[] {
  const rows: string[] = []
  let row = open
  // The end of a comment stays on the line of its last word.
  for (const word of words.split(/ (?!\*\/)/)) {
    const empty = row === open || row === more
    if (!empty && row.length + 1 + word.length > columns) {
      rows.push(row)
      row = more + word
    } else row += empty ? word : ` ${word}`
  }
  return [...rows, row]
}

/** Pages with code or numbers. */
export function pagesWithCode(): string[] {
  return readdirSync(join(root, 'docs/tour'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/tour/${name}`)
}

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  for (const page of pagesWithCode()) {
    const before = readFileSync(join(root, page), 'utf8')
    const after = withCode(before, page)
    if (after !== before) writeFileSync(join(root, page), after)
  }
