#!/usr/bin/env node
/**
 * The `demask` command: its subcommands, each of which is a file of this folder that is loaded when it is asked for, so that
 * --help answers at once. Needs Node. From source: npm run demask -- --help. Read command.ts, then any other file here.
 */

import { Command as Parser } from 'commander'
import { version } from '../training/version.ts'
import { type Command, demask } from './command.ts'
import { ended, examplesOf } from './flags.ts'
import { main } from './main.ts'
import { runInChild } from './run-in-child.ts'

const commands: Readonly<Record<string, Command>> = {
  train: {
    about: 'trains a model: dit, mdt, mdtv2, maskdit, maskdm or vae',
    long: true,
    load: () => import('./train.ts'),
  },
  sample: { about: 'draws pictures with a trained model', long: true, load: () => import('./sample.ts') },
  evaluate: { about: 'compares pictures with a reference: FID and its kin', load: () => import('./evaluate.ts') },
  'encode-latents': {
    about: 'encodes pictures once, for training on their latents',
    long: true,
    load: () => import('./encode-latents.ts'),
  },
  convert: {
    about: 'turns weights of PyTorch, or of safetensors, into safetensors',
    load: () => import('./convert.ts'),
  },
  info: { about: 'tells what is in a checkpoint, a run, latents or an npz', load: () => import('./info.ts') },
  runs: { about: 'lists runs: state, steps, loss, size', load: () => import('./runs.ts') },
  compare: {
    about: 'writes runs side by side as a page: curves, settings, samples',
    load: () => import('./compare.ts'),
  },
  report: { about: 'writes a run as a page: pictures, curves, settings', load: () => import('./report.ts') },
}

const examples = [
  ['train mdt --preset tiny', 'a small model of faces, in minutes'],
  ['sample --from runs/mdt-tiny --count 96 --out faces.png', 'what it has learned'],
  ['sample --help', 'the flags of a command'],
] as const

await main(async () => {
  const words = process.argv.slice(2)
  const parser = new Parser(demask)
    .usage('COMMAND [words and flags of the command]')
    .description('Masked diffusion transformers: pictures in, weights out, and pictures again.')
    .helpOption('--help', 'this text; after a command, its own')
    .helpCommand('help COMMAND', "a command's own help")
    .version(version(), '--version', 'the version of demask')
    .addHelpText('after', examplesOf(demask, examples))
    .configureOutput({ outputError: () => {} })
    .enablePositionalOptions() // what follows a command is the command's
    .exitOverride(ended)
  const run = async (name: string, rest: readonly string[]) => (await commands[name].load()).run(rest)
  for (const [name, { about, long }] of Object.entries(commands))
    parser
      .command(name)
      .usage(' ')
      .description(about)
      .helpOption(false)
      .allowUnknownOption()
      .allowExcessArguments()
      .exitOverride(ended)
      .action(() => {
        const command = () => run(name, words.slice(1))
        return long ? runInChild(command) : command()
      })
  if (words[0] === 'help' && words[1] in commands) return run(words[1], ['--help'])
  // `help` with a word that is no command is a mistake in that word.
  const typed = words[0] === 'help' ? words.slice(1) : words
  await parser.parseAsync(typed.length === 0 ? ['--help'] : typed, { from: 'user' })
})
