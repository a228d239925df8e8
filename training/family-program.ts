/** The training program of a family: everything follows from its record. Needs Node. */

import { arrayOf, aString, check, objectWith } from '../core/arguments.ts'
import type { Family, SettingsTable } from '../models/family.ts'
import { readGenerated, type TransformerOptions } from '../models/index.ts'
import type { Module } from '../nn/index.ts'
import { checkTrainable } from './arguments.ts'
import { showGenerated } from './latents.ts'
import type { TrainingProgram } from './program.ts'
import { checkPatches, folderOf } from './settings.ts'

const help = objectWith('help about and examples', { about: aString, examples: arrayOf('', arrayOf('', aString)) })

/** Makes a family's program; `more` holds its help and what is special about its runs. */
export function familyProgram<Model extends Module, Options extends TransformerOptions, Own extends SettingsTable>(
  family: Family<Model, Options, Own>,
  more: Pick<TrainingProgram<Model, Options, Own>, 'about' | 'examples'> &
    Partial<TrainingProgram<Model, Options, Own>>,
): TrainingProgram<Model, Options, Own> {
  checkTrainable('familyProgram', family)
  check('familyProgram', 'more', more, help)
  return {
    family,
    folder: given => folderOf(family, given.preset),
    title: ({ preset }) => `${family.name}-${preset}`,
    check: checkPatches,
    /** Pictures of seeds 0, 1, …, of all classes in turn. */
    async show(path, run, { settings, options, decode, average, samples: count }) {
      const { inputSize: S, inChannels: C, numClasses } = options
      const { generation, training } = family
      const drawing = { ...generation.defaults, ...training.grid?.(settings.preset, numClasses > 0) }
      const seeds = Array.from({ length: count }, (_, i) => i)
      const labels = numClasses > 0 ? seeds.map(i => i % numClasses) : null
      const schedule = generation.schedule?.(settings.preset)
      const request = { seeds, labels, ...drawing, clip: decode === null, schedule }
      const stop = () => run.isDrawingOver()
      const values = await readGenerated(generation.generate(average, request), stop)
      if (values !== null)
        await showGenerated(path, { values, shape: [count, C, S, S] }, { decode, classes: numClasses }, stop)
    },
    ...more,
  }
}
