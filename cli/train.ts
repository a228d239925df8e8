/**
 * `demask train`: starts one of the training programs of examples/, whose loops are the place to read. A program is a file
 * that runs when it is loaded; all that happens here is to tell it by which words it was reached, since what it says of
 * resuming begins with them. Needs Node. Next: examples/train-mdt-s.ts.
 */

import { demask } from './command.ts'
import { readFlags, startedBy } from './flags.ts'

const programs = {
  mdt: () => import('../examples/train-mdt-s.ts'),
  maskdit: () => import('../examples/train-maskdit.ts'),
  maskdm: () => import('../examples/train-maskdm.ts'),
  vae: () => import('../examples/train-vae.ts'),
}

export async function run(words: readonly string[]): Promise<void> {
  const [name, ...rest] = words
  if (Object.hasOwn(programs, name)) {
    startedBy(`${demask} train ${name}`, rest)
    await programs[name as keyof typeof programs]()
    return
  }
  readFlags(
    {
      command: `${demask} train`,
      about: 'Trains a model on pictures. Every model has flags of its own: --help after its name lists them.',
      operands: { model: { about: 'what to train', choices: Object.keys(programs) } },
      flags: {},
      examples: [
        ['mdt --preset tiny', 'a small model on smileys: faces in minutes'],
        ['mdt --preset tiny --resume --steps 20000', 'go on with it'],
        ['maskdit --help', 'what can be chosen of MaskDiT'],
        ['maskdm pretrain', 'the first of two stages'],
        ['vae --data my-pictures --size 64', 'an autoencoder, whose latents encode-latents makes'],
      ],
    },
    words,
  )
}
