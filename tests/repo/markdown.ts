/**
 * Documents as data: their code blocks, links and quotations of source lines. Used by docs.test.ts; run by itself,
 * `npx tsx tests/repo/markdown.ts`, it updates the line numbers of the papers' pages and of the reading list after code has moved.
 * The tour's code is written into its pages by name (site/code.ts). Needs Node.
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

export const root = resolve(import.meta.dirname, '../..')

export function read(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

export interface Block {
  readonly language: string
  readonly text: string
  /** Of its first line, counted from 1. */
  readonly line: number
}

/** The fenced code blocks of a document. */
export function blocks(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(match => ({
    language: match[1],
    text: match[2],
    line: markdown.slice(0, match.index).split('\n').length + 1,
  }))
}

/** Targets of links and pictures that are files of the repository, without anchors. */
export function localLinks(markdown: string): string[] {
  const prose = markdown.replace(/^```.*?^```$/gms, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(match => match[1].replace(/#.*$/, ''))
    .filter(target => target !== '' && !/^[a-z]+:/.test(target))
}

/** `[path:line](…)` and, right below it, the quoted lines in a code block. */
export interface Quotation {
  readonly path: string
  readonly line: number
  readonly lines: readonly string[]
  /** The link as it stands. */
  readonly link: string
}

const quotation = /^\[([\w./-]+):(\d+)\]\([^)\n]*\)\n\n```ts\n(.*?)^```$/gms

export function quotations(markdown: string): Quotation[] {
  return [...markdown.matchAll(quotation)].map(([whole, path, line, text]) => ({
    path,
    line: Number(line),
    lines: text.trimEnd().split('\n'),
    link: whole.slice(0, whole.indexOf('\n')),
  }))
}

/** The line numbers at which a file has `lines`, indentation of the first aside. */
export function find(path: string, lines: readonly string[]): number[] {
  const source = read(path).split('\n')
  const indent = (at: number) => source[at].slice(0, source[at].length - source[at].trimStart().length)
  const matches = (at: number) => lines.every((line, i) => source[at + i] === (line === '' ? '' : indent(at) + line))
  return source.flatMap((_, at) => (matches(at) ? [at + 1] : []))
}

/** The documents whose TypeScript blocks quote the source. */
export function quoting(): string[] {
  return readdirSync(join(root, 'docs/papers')).map(name => `docs/papers/${name}`)
}

/** Link of a document to a line of the source. */
export function linkTo(path: string, line: number, document: string): string {
  return `[${path}:${line}](${relative(dirname(document), path)}#L${line})`
}

/** Returns a document with current line numbers. Throws if a quotation is missing from the source, or found twice. */
export function renumbered(document: string): string {
  const markdown = read(document)
  return quotations(markdown).reduce((text, { path, lines, link }) => {
    const at = find(path, lines)
    if (at.length !== 1) throw new Error(`${path} has '${lines[0]}' … ${at.length} times, wanted once`)
    return text.replace(link, linkTo(path, at[0], document))
  }, markdown)
}

/** A row of docs/reading-list.md: a link to a file, then a name that the file exports, if there is one. */
export const stop = /^(\| \[(.+?)\]\(\.\.\/)[^)]+(\) \| )(?:`(\w+)`)?( ?\| \S.* \|)$/gm

/** Returns docs/reading-list.md with links to the lines that declare the names. Throws if a file does not export a name. */
export function readingList(): string {
  return read('docs/reading-list.md').replace(
    stop,
    (_, open: string, path: string, middle: string, name: string | undefined, rest: string) => {
      if (name === undefined) return `${open}${path}${middle}${rest.trimStart()}`
      const declaration = new RegExp(`^export (async )?(function\\*?|(abstract )?class|const|interface) ${name}\\b`)
      const line = read(path)
        .split('\n')
        .findIndex(text => declaration.test(text))
      if (line < 0) throw new Error(`docs/reading-list.md: expected an export of ${path}, got '${name}'`)
      return `${open}${path}#L${line + 1}${middle}\`${name}\`${rest}`
    },
  )
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const document of quoting()) writeFileSync(join(root, document), renumbered(document))
  writeFileSync(join(root, 'docs/reading-list.md'), readingList())
}
