/** Reads the sizes of a model off the names and shapes of its state dict, for the families' records. */

import type { Shape } from '../core/index.ts'
import { UserError } from '../io/index.ts'
import type { TransformerOptions } from './dit.ts'
import type { State } from './family.ts'

/** Shapes of a state dict by name, below a prefix. */
export class StateShapes {
  readonly #state: State
  readonly #path: string
  readonly #prefix: string

  /** `path` is the name of the file in errors; `prefix` is put before all names. */
  constructor(state: State, path: string, prefix = '') {
    this.#state = state
    this.#path = path
    this.#prefix = prefix
  }

  /** Shape of a tensor. Throws UserError if there is none, or one with another number of axes. */
  of(name: string, rank: number): Shape {
    const shape = this.#state.get(this.#prefix + name)?.shape
    if (shape?.length === rank) return shape
    const got = shape === undefined ? 'none' : `[${shape.join(', ')}]`
    throw new UserError(`${this.#path}: expected ${this.#prefix + name} with ${rank} axes, got ${got}`)
  }

  has(name: string): boolean {
    return this.#state.has(this.#prefix + name)
  }

  /** Number of modules `name`.0, `name`.1, … */
  count(name: string): number {
    const names = [...this.#state.keys()]
    let n = 0
    while (names.some(each => each.startsWith(`${this.#prefix}${name}.${n}.`))) n++
    return n
  }

  /** Returns the number of heads if it is known. Throws UserError, with the flag that tells it, if not. */
  heads(known: number | undefined, width: number, flag = '--heads'): number {
    if (known !== undefined) return known
    throw new UserError(
      `${this.#path}: no preset has width ${width} and this depth: expected ${flag}, which no shape tells`,
    )
  }

  /** Sizes that DiT, MDT and MaskDiT share, all but the heads; `blocks` names the list that holds the first block. */
  body(blocks: string, depth: number) {
    const [hiddenSize, inChannels, patchSize] = this.of('x_embedder.proj.weight', 4)
    const [, T] = this.of('pos_embed', 3)
    const [hidden] = this.of(`${blocks}.0.mlp.fc1.weight`, 2)
    const inputSize = gridSide(T) * patchSize
    return { inputSize, patchSize, inChannels, hiddenSize, depth, mlpRatio: mlpRatioOf(hidden, hiddenSize) }
  }

  /**
   * Classes by the label table of DiT and MDT, whose last row means 'no label' unless `told` otherwise, and whether the
   * output has variances. Throws UserError on another number of classes.
   */
  labelsAndSigma({ inChannels, patchSize }: Pick<TransformerOptions, 'inChannels' | 'patchSize'>, told?: number) {
    const table = 'y_embedder.embedding_table.weight'
    const [out] = this.of('final_layer.linear.weight', 2)
    const rows = this.has(table) ? this.of(table, 2)[0] : 0
    const numClasses = told ?? Math.max(rows - 1, 0)
    if (rows - numClasses !== 1 && rows !== numClasses)
      throw new UserError(`--classes: expected ${rows} or, with a row for 'no class', ${rows - 1}, got ${numClasses}`)
    return {
      numClasses,
      classDropoutProb: rows > numClasses ? 0.1 : 0, // above 0: the table has a row for 'no label'
      learnSigma: out === 2 * inChannels * patchSize ** 2,
    }
  }
}

/** Side of a square grid of T tokens. */
export function gridSide(T: number): number {
  return Math.round(Math.sqrt(T))
}

/** A ratio by which ⌊D · ratio⌋ is the hidden width again: half of one keeps it clear of rounding. */
export function mlpRatioOf(hidden: number, D: number): number {
  return hidden % D === 0 ? hidden / D : (hidden + 0.5) / D
}

interface Sizes {
  readonly hiddenSize: number
  readonly depth: number
  readonly patchSize: number
}

/** Name and options of the preset with these sizes; null if there is none. */
export function presetOf<Options extends Sizes>(
  sizes: Sizes,
  names: readonly string[],
  optionsOf: (name: string) => Options,
): { readonly name: string; readonly options: Options } | null {
  const keys = ['hiddenSize', 'depth', 'patchSize'] as const
  for (const name of names) {
    const options = optionsOf(name)
    if (keys.every(key => options[key] === sizes[key])) return { name, options }
  }
  return null
}

/** Pictures of the published models, whose body does not depend on them. */
export const publishedPictures = { inputSize: 32, inChannels: 4, numClasses: 1000 }
