/**
 * Pages of the reference, docs/reference: one for each source file, with all that the package exports from it. TypeDoc writes
 * one page for each export, 765 of them; here they become sections, with a link to the line that declares them. Needs Node.
 * Used by reference.ts.
 */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import type { JSONOutput } from 'typedoc'
import { specifierOf } from '../tests/repo/rooms.ts'
import { root } from './regions.ts'

const folderOf: Readonly<Record<number, string>> = {
  8: 'enumerations',
  32: 'variables',
  64: 'functions',
  128: 'classes',
  256: 'interfaces',
  2097152: 'type-aliases',
}

/** An export. */
interface Member {
  readonly name: string
  /** Path of TypeDoc's page, below its folder. */
  readonly file: string
  /** Source file and line of the declaration. */
  readonly source: string
  readonly line: number
  readonly room: string
  /** Its heading on our page. */
  readonly id: string
}

/** Turns TypeDoc's pages in `from` into ours in `to`. */
export function writePages(project: JSONOutput.ProjectReflection, from: string, to: string): void {
  const members = (project.children ?? []).flatMap(module => membersOf(module))
  const places = new Map(members.map(member => [member.file, member]))
  const pages = groupBy(members, ({ source }) => source)
  rmSync(to, { recursive: true, force: true })
  for (const [source, all] of pages) {
    const sections = all
      .sort((a, b) => a.line - b.line)
      .map(member => sectionOf(member, readFileSync(join(from, member.file), 'utf8'), places))
    const file = join(to, pageOf(source))
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, `${headOf(source, all[0].room)}\n${sections.join('\n')}`)
  }
  writeFileSync(join(to, 'index.md'), indexOf(pages))
}

function membersOf(module: JSONOutput.DeclarationReflection): Member[] {
  const room = module.name.split('/')[0]
  return (module.children ?? []).flatMap(({ name, kind, sources }) => {
    const [place] = sources ?? []
    if (folderOf[kind] === undefined || place === undefined) return []
    const file = `${module.name}/${folderOf[kind]}/${name}.md`
    // A name can be both a type and a value: the type's heading has its kind.
    const id = folderOf[kind] === 'type-aliases' || folderOf[kind] === 'interfaces' ? `${name}-type` : name
    return [{ name, file, source: place.fileName, line: place.line, room, id }]
  })
}

/** Elements by a key, in the order of their first appearance. */
function groupBy<T>(elements: readonly T[], keyOf: (element: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const element of elements) {
    const key = keyOf(element)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [element])
    else group.push(element)
  }
  return groups
}

const pageOf = (source: string) => source.replace(/\.ts$/, '.md')

/** Title, import line, and the comment that opens the source file. */
function headOf(source: string, room: string): string {
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(join(root, source), 'utf8'))?.[1] ?? ''
  const about = comment
    .replace(/^ \* ?/gm, '')
    .trim()
    .split(/\n\s*\n/)[0]
    .replace(/</g, '&lt;')
    .replace(/\{\{/g, '{&#123;')
  const specifier = specifierOf(room as never) ?? room
  return `---
outline: 2
prev: false
next: false
---

# ${source.replace(/\.ts$/, '')}

${about}

Source: [${source}](/${source}). Import from \`${specifier}\`.
`
}

/** Headings of TypeDoc that name a part of a section. */
const parts =
  /^(Parameters|Returns|Type Parameters|Properties|Methods|Accessors|Constructors|Constructor|Extends|Extended by|Implements|Implemented by|Throws|Type Declaration|Get Signature|Set Signature|Call Signature|Indexable|Index Signature|Default Value|Examples?|See|Deprecated|Remarks)$/

/** An export's page as a section: its headings become paragraphs, except those of members, and its links lead to our pages. */
function sectionOf(member: Member, page: string, places: ReadonlyMap<string, Member>): string {
  const used = new Set<string>()
  const idOf = (title: string) => {
    let id = `${member.id}-${slug(title)}`
    while (used.has(id)) id += '-' // a property of two types in one declaration
    used.add(id)
    return id
  }
  const body = page
    .replace(/^# .*\n/m, '')
    .replace(/^\*\*\*\n/gm, '')
    .replace(/^#+ (Implementation of|Overrides|Inherited from)\n\n.*\n/gm, '')
    .replace(/^(Defined in: .*)\n/gm, '')
    .replace(/<a id="([^"]+)"/g, (_, id: string) => `<a id="${member.id}-${id}"`)
    .replace(/^(#+) (.*)$/gm, (_, _marks: string, title: string) =>
      parts.test(title) ? `**${title}**` : `### ${title} {#${idOf(title)}}`,
    )
    .replace(/\]\(([^)#\s]+\.md)(#[^)]*)?\)/g, (whole, href: string, anchor?: string) => {
      const target = places.get(join(dirname(member.file), href))
      if (target === undefined) return whole
      const path = relative(dirname(pageOf(member.source)), pageOf(target.source))
      return `](${path}#${target.id}${anchor === undefined ? '' : `-${slug(anchor)}`})`
    })
    .replace(/\n{3,}/g, '\n\n')
    .trim()
  const title = member.file.includes('/functions/') ? `${member.name}()` : member.name
  return `## ${title} {#${member.id}}\n\n${body}\n\n[${member.source}:${member.line}](/${member.source}#L${member.line})\n`
}

const slug = (text: string) => text.replace(/[^\w]+/g, '').toLowerCase()

/** The files of each room, with their exports. */
function indexOf(pages: ReadonlyMap<string, readonly Member[]>): string {
  const rooms = groupBy([...pages], ([, [{ room }]]) => room)
  const lists = [...rooms].map(([room, files]) => {
    const rows = files
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([source, members]) => {
        const names = members.map(({ name, id }) => `[\`${name}\`](${pageOf(source)}#${id})`)
        return `| [${source.replace(/\.ts$/, '').slice(room.length + 1)}](${pageOf(source)}) | ${names.join(', ')} |`
      })
    return `## ${room}\n\n\`import { … } from '${specifierOf(room as never) ?? room}'\`\n\n| file | exports |\n|---|---|\n${rows.join('\n')}\n`
  })
  return `---
outline: 2
prev: false
next: false
---

# Reference

All that the package exports, by the source file that declares it, with types, shapes and errors. It comes from the docstrings
of this build. [From PyTorch](../from-pytorch.md) finds a function by its PyTorch name, and [Ops](../ops.md) has the gradient
of each op.

${lists.join('\n')}`
}
