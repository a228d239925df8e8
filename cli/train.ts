/**
 * `demask train`: runs the training loop of a family or of the autoencoder. Needs Node. The loop is training/train.ts, the
 * programs are training/programs.ts.
 */

import { UsageError } from '../io/user-error.ts'
import { readConfig } from '../training/config.ts'
import { describeRun, openDryRun, openRun } from '../training/program.ts'
import { type AnyProgram, programs } from '../training/programs.ts'
import { lookTable } from '../training/settings.ts'
import { train } from '../training/train.ts'
import { demask } from './command.ts'
import { readFlags } from './flags.ts'
import { readTrainingCommand } from './train-flags.ts'

export async function run(words: readonly string[]): Promise<void> {
  const inConfig = words[0]?.startsWith('--') ? programIn(words) : undefined
  const [name, ...rest] = inConfig === undefined ? words : [inConfig, ...words]
  if (Object.hasOwn(programs, name)) {
    const program: AnyProgram = programs[name as keyof typeof programs]
    const command = readTrainingCommand(program, `${demask} train ${name}`, rest, lookTable)
    if (command.looks.printConfig === true) process.stdout.write(await describeRun(program, command))
    else await train(program, command, command.looks.dryRun === true ? openDryRun : openRun)
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
        ['mdt --data my-pictures --dry-run', 'what a run needs of time, memory and disk, before it begins'],
        ['--config runs/mdt-tiny/run.json --out runs/again', 'the same run, elsewhere'],
        ['maskdit --help', 'the flags of MaskDiT'],
        ['maskdm', 'the first of two stages'],
        ['vae --data my-pictures --size 64', 'an autoencoder, whose latents encode-latents makes'],
      ],
    },
    words,
  )
}

/** The program of the run.json that `--config` names; undefined without the flag. Throws UserError. */
function programIn(words: readonly string[]): string | undefined {
  const at = words.findIndex(word => word === '--config' || word.startsWith('--config='))
  const path = at < 0 ? undefined : words[at].includes('=') ? words[at].slice('--config='.length) : words[at + 1]
  if (path === undefined) return undefined
  const { program } = readConfig(path)
  const name = program.replace(/^train /, '')
  if (Object.hasOwn(programs, name)) return name
  throw new UsageError(
    `--config: expected a run of one of ${Object.keys(programs).join(', ')}, got ${program}: ${path}`,
  )
}
