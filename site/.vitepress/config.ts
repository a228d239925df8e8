/**
 * The site: the Markdown of docs/, the reference from the docstrings, and the playground. VitePress renders it, because it is
 * kept, small for the reader (pages are static and hydrate), and takes Vue components and workers from this repository's own
 * source through Vite. The pages of the source are written beside it (source.ts).
 */

import { join } from 'node:path'
import { katex } from '@mdit/plugin-katex'
import { defineConfig, type MarkdownEnv } from 'vitepress'
import { address, base } from '../base.ts'
import { isolation } from '../isolation.ts'
import { sourceLinks } from '../links.ts'
import { joinPunctuation } from '../punctuation.ts'
import { root } from '../regions.ts'
import { sidebar } from '../sidebar.ts'
import { tableLabels } from '../tables.ts'

const description = 'Tensors, automatic differentiation and masked diffusion transformers, from scratch in TypeScript.'

/** Part of markdown-it that the search index needs; VitePress and the plugins bring different versions of its types. */
interface Renderer {
  readonly options: { highlight?: unknown }
  render(markdown: string, env: MarkdownEnv): string
}

/** HTML of each page for the search index, which VitePress builds once for the browser and once for the server. */
const searchablePages = new Map<string, string>()

/** Renders a page for the search index: without colours of code, which take most of the time and are not searched. */
function searchable(markdown: string, env: MarkdownEnv, md: Renderer): string {
  let html = searchablePages.get(env.path)
  if (html === undefined) {
    const { highlight } = md.options
    md.options.highlight = null
    try {
      html = md.render(markdown, env)
    } finally {
      md.options.highlight = highlight
    }
    searchablePages.set(env.path, html)
  }
  return html
}

export default defineConfig({
  title: 'demask',
  description,
  lang: 'en',
  base,
  srcDir: '../docs',
  outDir: '../site/dist',
  cacheDir: '../site/.cache',
  lastUpdated: false,
  metaChunk: true,
  // Suppressing transitions while colours change would compute the style of every element three times at load.
  appearance: { disableTransition: false },
  head: [
    ['link', { rel: 'icon', href: `${base}icon.svg` }],
    ['meta', { property: 'og:site_name', content: 'demask' }],
    ['meta', { property: 'og:type', content: 'website' }],
    ['meta', { property: 'og:image', content: `${address ?? ''}${base}open-graph.png` }],
    ['meta', { property: 'og:image:alt', content: 'Smileys that a model of demask sampled from noise' }],
    ['meta', { name: 'twitter:card', content: 'summary_large_image' }],
  ],
  transformHead: ({ title, description }) => [
    ['meta', { property: 'og:title', content: title }],
    ['meta', { property: 'og:description', content: description }],
  ],
  markdown: {
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    config(md) {
      // VitePress and the plugin bring different versions of markdown-it's types.
      katex(md as never, {
        throwOnError: true,
        strict: 'error',
        output: 'htmlAndMathml',
      })
      md.use(joinPunctuation)
      md.use(sourceLinks)
      md.use(tableLabels)
      // Vue drops a line break between two elements, as in "**You need**" before a link; a space stays.
      md.renderer.rules.softbreak = () => ' '
    },
  },
  themeConfig: {
    nav: [
      { text: 'Tour', link: '/tour/' },
      { text: 'Playground', link: '/playground/' },
      { text: 'Reference', link: '/reference/' },
      { text: 'Source', link: '/source/index.html', target: '_self', noIcon: true },
    ],
    sidebar: sidebar(),
    outline: [2, 3],
    search: {
      provider: 'local',
      options: {
        _render: searchable,
        miniSearch: {
          searchOptions: {
            fuzzy: 0.2,
            prefix: true,
            boost: { title: 4, text: 2, titles: 1 },
            // Chapters first, then papers and guides, then the API.
            boostDocument: (id: string) => (/\/reference\/|\/errors/.test(id) ? 0.25 : /\/tour\//.test(id) ? 2 : 1),
          },
        },
      },
    },
  },
  vite: {
    resolve: {
      alias: [
        { find: /^.*\/VPSidebarGroup\.vue$/, replacement: join(root, 'site/components/SidebarGroups.vue') },
        { find: 'vue', replacement: join(root, 'site/node_modules/vue') }, // docs/ has no packages of its own
      ],
      dedupe: ['vue'],
    },
    server: { fs: { allow: [root] }, headers: isolation },
    worker: { format: 'es' },
    build: { target: 'es2022', chunkSizeWarningLimit: 1000 },
  },
})
