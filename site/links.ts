/**
 * Points links from prose to files of the repository at their page below /source/, at the line that was meant. Links between
 * pages stay as they are. Needs Node. Used by .vitepress/config.ts.
 */

import { existsSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import type { MarkdownRenderer } from 'vitepress'
import { base } from './base.ts'
import { root } from './regions.ts'

/** Target of a link `href` on the page `page` (a path below docs/). Throws if the repository has no such file. */
export function target(href: string, page: string): string {
  if (/^([a-z]+:|#)/.test(href)) return href
  const [path, anchor] = href.split('#')
  const inSite = path.startsWith('/')
    ? path.slice(1)
    : relative(join(root, 'docs'), join(root, 'docs', dirname(page), path))
  const inRepository = path.startsWith('/') ? path.slice(1) : relative(root, join(root, 'docs', dirname(page), path))
  if (!inSite.startsWith('..') && !isSource(inRepository)) return href
  if (!existsSync(join(root, inRepository))) throw new Error(`${page}: the link ${href} leads nowhere`)
  const folder = statSync(join(root, inRepository)).isDirectory()
  return folder
    ? `${base}source/#${inRepository}`
    : `${base}source/${inRepository}.html${anchor === undefined ? '' : `#${anchor}`}`
}

function isSource(path: string): boolean {
  return !path.startsWith('docs/') && existsSync(join(root, path)) && path !== ''
}

/** A plugin of markdown-it. */
export function sourceLinks(md: MarkdownRenderer): void {
  md.core.ruler.push('source-links', state => {
    for (const token of state.tokens.flatMap(({ children }) => children ?? [])) {
      if (token.type !== 'link_open') continue
      const href = target(token.attrGet('href')!, state.env.relativePath)
      token.attrSet('href', href)
      if (href.startsWith(`${base}source/`)) token.attrSet('target', '_self') // no page of VitePress
    }
  })
}
