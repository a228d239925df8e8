/** A page for each file of the source. Needs Node. */

import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { rooms } from '../../tests/repo/rooms.ts'

const root = resolve(import.meta.dirname, '../..')
const folders = [...rooms, 'bench', 'tests', 'site']
const others = ['package.json', 'tsconfig.json', 'README.md', 'CONTRIBUTING.md', 'bench/README.md']
const left = /node_modules|generated|fixtures|(^|\/)(dist|history|\.\w+)(\/|$)|bench\/peers\//

/** Paths of the files, from the root of the repository. */
export function sources(): string[] {
  const found = folders.flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map(name => `${folder}/${name}`)
      .filter(name => /\.(ts|vue)$/.test(name) && !left.test(name)),
  )
  return [...found.sort(), ...others]
}

/** VitePress takes `.md` for its own. */
function pageOf(file: string): string {
  return file.replace(/\.md$/, '')
}

const language = { ts: 'ts', vue: 'vue', json: 'json', md: 'md' } as const

export default {
  paths: () =>
    sources().map(file => {
      const text = readFileSync(join(root, file), 'utf8').trimEnd()
      const fence = '`'.repeat(5)
      const name = language[file.slice(file.lastIndexOf('.') + 1) as keyof typeof language]
      return { params: { file: pageOf(file) }, content: `${fence}${name}:line-numbers source\n${text}\n${fence}` }
    }),
}
