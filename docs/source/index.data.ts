/** The list of the source's files, by folder. Needs Node. */

import { dirname } from 'node:path'
import pages from './[file].paths.ts'

export interface Folder {
  readonly name: string
  readonly files: readonly string[]
}

export declare const data: readonly Folder[]

export default {
  load(): Folder[] {
    const files = pages.paths().map(({ params }) => params.file)
    const names = [...new Set(files.map(file => dirname(file)))].filter(name => name !== '.')
    return names.map(name => ({ name, files: files.filter(file => dirname(file) === name) }))
  },
}
