/**
 * Draws the tour's figures into docs/tour/figures, from values that the package computes; measurements come from the JSON files
 * beside them. A test draws them again and compares. Needs Node. Run: npm run docs:figures, with parts of names for some.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from '../regions.ts'
import { layers } from './layers.ts'
import { multiply } from './multiply.ts'
import { noise } from './noise.ts'
import { samplers } from './samplers.ts'
import { training } from './training.ts'

/** A figure's SVG. */
export type Draw = () => string | Promise<string>

/** All figures by the name of their file. */
export const figures: Readonly<Record<string, Draw>> = { ...noise, ...multiply, ...layers, ...samplers, ...training }

/** Path of a figure from the root of the repository. */
export function pathOf(name: string): string {
  return `docs/tour/figures/${name}.svg`
}

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  for (const [name, draw] of Object.entries(figures))
    if (process.argv.length === 2 || process.argv.slice(2).some(part => name.includes(part))) {
      writeFileSync(join(root, pathOf(name)), await draw())
      console.log(pathOf(name))
    }
