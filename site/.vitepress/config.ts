/**
 * The site: the Markdown of docs/, the source as pages, the reference from the docstrings, and the playground. VitePress
 * renders it, because it is kept, small for the reader (pages are static and hydrate), and takes Vue components and workers
 * from this repository's own source through Vite.
 */

import { join } from 'node:path'
import { katex } from '@mdit/plugin-katex'
import { defineConfig } from 'vitepress'
import { isolation } from '../isolation.ts'
import { sourceLinks } from '../links.ts'
import { root } from '../regions.ts'
import { sidebar } from '../sidebar.ts'

export default defineConfig({
  title: 'demask',
  description: 'Tensors, automatic differentiation and masked diffusion transformers, from scratch in TypeScript.',
  lang: 'en',
  head: [['link', { rel: 'icon', href: '/icon.svg' }]],
  srcDir: '../docs',
  outDir: '../site/dist',
  cacheDir: '../site/.cache',
  lastUpdated: false,
  markdown: {
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    codeTransformers: [
      {
        name: 'anchors of lines on the pages of the source',
        line(node, line) {
          if (this.options.meta?.__raw?.includes('source')) node.properties.id = `L${line}`
        },
      },
    ],
    config(md) {
      // VitePress and the plugin bring different versions of markdown-it's types.
      katex(md as never, {
        throwOnError: true,
        strict: 'error',
        output: 'htmlAndMathml',
      })
      md.use(sourceLinks)
    },
  },
  themeConfig: {
    nav: [
      { text: 'Tour', link: '/tour/' },
      { text: 'Playground', link: '/playground/' },
      { text: 'Reference', link: '/reference/' },
      { text: 'Source', link: '/source/' },
    ],
    sidebar: sidebar(),
    outline: [2, 3],
    search: {
      provider: 'local',
      options: {
        _render: (source, env, md) => (env.relativePath.startsWith('source/') ? '' : md.render(source, env)),
      },
    },
  },
  vite: {
    resolve: { alias: { vue: join(root, 'site/node_modules/vue') }, dedupe: ['vue'] }, // docs/ has no packages of its own
    server: { fs: { allow: [root] }, headers: isolation },
    worker: { format: 'es' },
    build: { target: 'es2022', chunkSizeWarningLimit: 1000 },
  },
})
