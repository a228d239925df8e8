/**
 * `demask train`: runs the training loop of a family or of the autoencoder. Needs Node. The loop is training/train.ts, the
 * programs are training/programs.ts.
 */

import { type AnyProgram, programs } from '../training/programs.ts'
import { train } from '../training/train.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'
import { runInChild } from './run-in-child.ts'
import { readTrainingCommand } from './train-flags.ts'

export async function run(words: readonly string[]): Promise<void> {
  const [name, ...rest] = words
  if (Object.hasOwn(programs, name)) {
    const program: AnyProgram = programs[name as keyof typeof programs]
    await runInChild(() => train(program, readTrainingCommand(program, `${demask} train ${name}`, rest)))
    return
  }
  readFlags(
    {
      command: `${demask} train`,
      about: 'Trains a model on pictures. Every model has flags of its own: --help after its name lists them.',
      operands: { model: { about: 'the model to train', choices: Object.keys(programs) } },
      flags: {},
      examples: [
        ['mdt', 'a small model on smileys: faces in minutes'],
        ['mdt --resume --steps 20000', 'continue it, for longer'],
        ['mdt --data my-pictures --size 32', 'pictures of your own'],
        ['maskdit --help', 'the flags of MaskDiT'],
        ['maskdm', 'the first of two stages'],
        ['vae --data my-pictures --size 64', 'an autoencoder, whose latents encode-latents makes'],
      ],
    },
    words,
  )
}
