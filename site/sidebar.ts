/** Entries of the sidebar: the chapters, and the other pages. Needs Node. Used by .vitepress/config.ts. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DefaultTheme } from 'vitepress'
import { root } from './regions.ts'

export function sidebar(): DefaultTheme.SidebarItem[] {
  return [
    { text: 'Tour', items: pages('tour') },
    { text: 'Playground', items: pages('playground') },
    { text: 'Papers', items: entries(['papers/mdt', 'papers/maskdit', 'papers/maskdm']) },
    { text: 'Evidence', items: pages('evidence') },
    {
      text: 'Use',
      items: entries(['library', 'runs', 'fine-tuning', 'latents', 'distributed', 'evaluation', 'formats', 'gpu']),
    },
    {
      text: 'Look up',
      items: entries([
        'from-pytorch',
        'reading-list',
        'notation',
        'references',
        'differences',
        'dtypes',
        'ops',
        'errors',
        'checks',
      ]).concat(
        { text: 'Reference', link: '/reference/' },
        { text: 'Source', link: '/source/index.html', target: '_self' },
      ),
    },
  ]
}

/** Pages in the order given. */
function entries(names: readonly string[]): DefaultTheme.SidebarItem[] {
  return names.map(name => entry(`${name}.md`))
}

/** Pages of a folder, in the order in which its index links to them. */
function pages(folder: string): DefaultTheme.SidebarItem[] {
  const names = readdirSync(join(root, 'docs', folder)).filter(name => name.endsWith('.md'))
  const index = readFileSync(join(root, 'docs', folder, 'index.md'), 'utf8')
  const place = (name: string) => index.indexOf(`](${name})`)
  return names.sort((a, b) => place(a) - place(b)).map(name => entry(`${folder}/${name}`))
}

/** A page under its own heading. */
function entry(path: string): { text: string; link: string } {
  const heading = /^# (.+)$/m.exec(readFileSync(join(root, 'docs', path), 'utf8'))
  if (heading === null) throw new Error(`docs/${path}: expected a heading, got none`)
  return { text: heading[1], link: `/${path.replace(/(index)?\.md$/, '')}` }
}
