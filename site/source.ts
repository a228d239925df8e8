/**
 * Pages of the source, site/dist/source: plain HTML with numbered lines that links lead to, and an index. They need no script
 * and no VitePress, which would write each of them three times. TypeScript's parser finds the keywords, strings and comments.
 * Needs Node. Used by build.ts.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import { rooms } from '../tests/repo/rooms.ts'
import { root } from './regions.ts'

const folders = [...rooms, 'bench', 'tests', 'site']
const others = [
  'package.json',
  'tsconfig.json',
  'biome.json',
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'bench/README.md',
  'tests/README.md',
]
const excluded = /node_modules|generated|fixtures|(^|\/)(dist|history|\.\w+)(\/|$)|bench\/peers\//

/** Paths of the files that have a page, from the root of the repository. */
export function sources(): string[] {
  const found = folders.flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map(name => `${folder}/${name}`)
      .filter(name => /\.(ts|vue|css)$/.test(name) && !excluded.test(name)),
  )
  return [...found.sort(), ...others.filter(name => !found.includes(name))]
}

/** Writes the pages below `out`, links prefixed by the site's base path `base`. */
export function writeSource(out: string, base: string): void {
  const files = sources()
  const write = (path: string, html: string) => {
    mkdirSync(dirname(join(out, path)), { recursive: true })
    writeFileSync(join(out, path), html)
  }
  write('source.css', css)
  write('index.html', page('Source', base, '', indexOf(files, base)))
  for (const file of files) {
    const lines = highlighted(readFileSync(join(root, file), 'utf8').trimEnd(), file)
      .split('\n')
      .map((line, i) => `<span id="L${i + 1}">${line}\n</span>`)
    const folder = dirname(file)
    const up = folder === '.' ? '' : `<a href="${base}source/#${folder}">${folder}</a> / `
    write(`${file}.html`, page(file, base, up, `<pre tabindex="0"><code>${lines.join('')}</code></pre>`))
  }
}

/** The files by folder. */
function indexOf(files: readonly string[], base: string): string {
  const names = [...new Set(files.map(file => dirname(file)))].filter(name => name !== '.')
  const list = (name: string) =>
    files
      .filter(file => dirname(file) === name)
      .map(
        file => `<li><a href="${base}source/${file}.html">${file.slice(name === '.' ? 0 : name.length + 1)}</a></li>`,
      )
      .join('')
  const order = rooms.map(room => `<code>${room}</code>`).join(', ')
  return (
    `<p>All source files of this build. A folder imports only from the folders before it in this order: ${order}. ` +
    `The <a href="${base}reading-list.html">reading list</a> says where to begin.</p>` +
    ['.', ...names]
      .map(name => `<h2 id="${name}">${name === '.' ? 'Top level' : name}</h2><ul>${list(name)}</ul>`)
      .join('\n')
  )
}

function page(title: string, base: string, up: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title} | demask</title>
<link rel="icon" href="${base}icon.svg"><link rel="stylesheet" href="${base}source/source.css">
<script>{const a=localStorage.getItem('vitepress-theme-appearance')||'auto'
if(a==='dark'||a==='auto'&&matchMedia('(prefers-color-scheme: dark)').matches)document.documentElement.className='dark'}</script>
</head><body><header><nav aria-label="Site"><a href="${base}">demask</a> <a href="${base}tour/">Tour</a>
<a href="${base}playground/">Playground</a> <a href="${base}reference/">Reference</a> <a href="${base}source/">Source</a></nav></header>
<main><h1>${up}${title.slice(title.lastIndexOf('/') + 1)}</h1>
${body}
</main></body></html>
`
}

// ---- Colours ----------------------------------------------------------------------------------------------------------

const escaped = (text: string) => text.replace(/[&<>]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]!)

/** A text as HTML, with `<b>` around keywords, `<q>` around strings and numbers and `<i>` around comments, line by line. */
export function highlighted(text: string, file: string): string {
  const script = /<script[^>]*>\n/.exec(text)
  if (file.endsWith('.vue') && script !== null) {
    const from = script.index + script[0].length
    const to = text.indexOf('</script>', from)
    return escaped(text.slice(0, from)) + typescript(text.slice(from, to)) + escaped(text.slice(to))
  }
  return /\.(ts|json)$/.test(file) ? typescript(text) : escaped(text)
}

function typescript(text: string): string {
  let html = ''
  let at = 0
  const put = (from: number, to: number, tag: string) => {
    if (from < at) return
    const lines = escaped(text.slice(from, to)).split('\n')
    html +=
      escaped(text.slice(at, from)) + lines.map(line => (line === '' ? '' : `<${tag}>${line}</${tag}>`)).join('\n')
    at = to
  }
  const file = ts.createSourceFile('page.ts', text, ts.ScriptTarget.Latest, false)
  const visit = (node: ts.Node) => {
    const children = node.getChildren(file).filter(({ kind }) => !isJsDoc(kind))
    if (children.length > 0) return children.forEach(visit)
    for (const comment of ts.getLeadingCommentRanges(text, node.getFullStart()) ?? [])
      put(comment.pos, comment.end, 'i')
    const tag = tagOf(node.kind)
    if (tag !== null) put(node.getStart(file), node.getEnd(), tag)
    for (const comment of ts.getTrailingCommentRanges(text, node.getEnd()) ?? []) put(comment.pos, comment.end, 'i')
  }
  visit(file)
  return html + escaped(text.slice(at))
}

const isJsDoc = (kind: ts.SyntaxKind) => kind >= ts.SyntaxKind.FirstJSDocNode && kind <= ts.SyntaxKind.LastJSDocNode

function tagOf(kind: ts.SyntaxKind): 'b' | 'q' | null {
  const { SyntaxKind } = ts
  if (kind >= SyntaxKind.FirstKeyword && kind <= SyntaxKind.LastKeyword) return 'b'
  const literal = kind >= SyntaxKind.FirstLiteralToken && kind <= SyntaxKind.LastTemplateToken
  return literal ? 'q' : null
}

const css = `:root{--bg:#fff;--text:#1f2328;--dim:#59636e;--line:#d1d9e0;--key:#a0111f;--value:#032563;--link:#3451b2}
.dark{--bg:#1b1b1f;--text:#dfdfd6;--dim:#a2a9b1;--line:#3c3f44;--key:#ff9492;--value:#addcff;--link:#a8b1ff}
:root{color-scheme:light}.dark{color-scheme:dark}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.6 system-ui,sans-serif}
header{border-bottom:1px solid var(--line)}nav,main{max-width:1100px;margin:auto;padding:12px 24px}
nav a{margin-right:16px}nav a:first-child{font-weight:600}a{color:var(--link)}
h1{font-size:20px;overflow-wrap:anywhere}h2{font-size:17px}
ul{columns:16em;padding-left:20px}li{break-inside:avoid}
code{font-family:ui-monospace,Menlo,Consolas,monospace}
pre{margin:0;font-size:13px;line-height:1.55;counter-reset:n}
pre span{display:block;padding-left:52px;text-indent:-52px;white-space:pre-wrap;overflow-wrap:anywhere;counter-increment:n}
pre span::before{content:counter(n);display:inline-block;width:36px;margin-right:16px;text-indent:0;text-align:right;color:var(--dim);user-select:none}
pre span:target{background:color-mix(in srgb,var(--link) 20%,var(--bg))}
b{font-weight:400;color:var(--key)}i{font-style:italic;color:var(--dim)}q{quotes:none;color:var(--value)}
@media(max-width:640px){nav,main{padding:12px}pre{font-size:12px}pre span{padding-left:36px;text-indent:-36px}pre span::before{width:28px;margin-right:8px}}
`
