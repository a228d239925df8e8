/**
 * --init and --freeze, by the programs of all families: runs, checkpoints and files as a start, the notes about them, and refused
 * ones. Needs Node.
 */

import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { ready, rng } from '../../core/index.ts'
import { storable, writeSafetensors } from '../../io/safetensors-node.ts'
import { UserError } from '../../io/user-error.ts'
import { type Family, families, type TransformerOptions } from '../../models/index.ts'
import type { Module } from '../../nn/index.ts'
import { type AnyProgram, openRun, programs, saveCheckpoint, train } from '../../training/index-node.ts'
import { opened } from '../models/opened.ts'
import { values } from '../near.ts'
import { bytesOf } from '../programs/example.ts'
import { quietly } from './printed.ts'

const wasm = await ready({ threads: 1 })
const folder = mkdtempSync(join(tmpdir(), 'demask-init-'))
test.after(() => {
  wasm.dispose()
  rmSync(folder, { recursive: true, force: true })
})

/** The program of a family, without pictures of its progress. */
const programOf = ({ command }: Family): AnyProgram => ({
  ...(programs[command as keyof typeof programs] as AnyProgram),
  show: async () => {},
})
let runs = 0
/** The command line of a new run, or one in `--out`. */
const commandOf = (program: AnyProgram, words: string) => {
  const out = words.includes('--out') ? '' : ` --out ${join(folder, `run-${runs++}`)}`
  return readTrainingCommand(program, 'demask train', `${words}${out} --threads 1`.trim().split(/\s+/))
}

/** A model as the program prepares it, and its first weights. */
async function prepared(program: AnyProgram, words: string) {
  const { options, random, prepare, close } = await openRun(program, commandOf(program, words))
  const model = program.family.make(options, { rng: random.fork('weights') })
  const first = contents(model)
  await prepare(model)
  close()
  return { model, first, after: contents(model) }
}

const contents = (model: Module) => new Map(Array.from(model.stateDict(), ([name, value]) => [name, values(value)]))

/** A checkpoint of a run of `tiny` at 8 px with random weights, other ones in the average. */
async function checkpointOf(family: Family, name: string, classes: readonly string[] = [], change = {}) {
  const pictures = { inputSize: 8, inChannels: 3, numClasses: classes.length }
  const model: TransformerOptions = { ...family.options('tiny', pictures), ...change }
  const [last, average] = [1, 2].map(seed => opened(family.make(model, { rng: null }), rng(seed)))
  const settings = { ...family.training.defaults('tiny'), preset: 'tiny', data: 'emoji:smileys', size: 8 }
  const tensors = { model: last.stateDict(), ema: average.stateDict(), optimizer: new Map() }
  const state = { step: 5, emaUpdates: 5, backend: 'cpu', settings, model, classes, latents: null }
  await saveCheckpoint(join(folder, name), tensors, state)
  return { run: join(folder, name), last, average }
}

const sizes = '--preset tiny --size 8 --batch 2 --steps 1'

for (const family of families) {
  const program = programOf(family)
  const { name, command } = family

  test(`${name}: starts with the averaged weights of a run, or with a file's`, async () => {
    const { run, last, average } = await checkpointOf(family, command)
    const file = join(folder, `${command}.safetensors`)
    await writeSafetensors(file, storable(last.stateDict()))
    assert.equal((await prepared(program, `${sizes} --labels no --init ${run}`)).after, contents(average))
    assert.equal((await prepared(program, `${sizes} --labels no --init ${file}`)).after, contents(last))
    const model = join(run, 'checkpoint-00000005', 'model.safetensors')
    assert.equal((await prepared(program, `${sizes} --labels no --init ${model}`)).after, contents(last))
    const nan = join(folder, `${command}-nan.safetensors`)
    const state = new Map(storable(last.stateDict()))
    const [first, value] = [...state].find(([each]) => each.endsWith('fc1.weight'))!
    state.set(first, { ...value, data: new Float32Array(last.stateDict().get(first)!.size).fill(Number.NaN) })
    await writeSafetensors(nan, state)
    await refused(
      prepared(program, `${sizes} --labels no --init ${nan}`),
      /^--init: \S+nan\.safetensors: .*fc1\.weight: element 0: expected finite weights, got NaN/,
    )
  })

  test(`${name}: what does not fit is one line, with the flag and the file`, async () => {
    const narrow = { hiddenSize: 32, numHeads: 2 }
    const { run } = await checkpointOf(family, `${command}-narrow`, [], narrow)
    const other = families.find(each => each !== family)!
    const { run: foreign } = await checkpointOf(other, `${command}-other`, [], narrow)
    const words = `${sizes} --labels no`
    const wrong: readonly (readonly [string, RegExp])[] = [
      [`--init ${folder}/nowhere`, /^--init: no such file or folder: \S+nowhere$/],
      [
        `--init ${run}`,
        /^--init: \S+ema\.safetensors: expected \w+ weights with a width of 128, .*heads 4, got a width of 32, .*heads 2/,
      ],
      [`--init ${foreign}`, new RegExp(`ema\\.safetensors: expected weights of ${name}, got those of ${other.name}$`)],
      ['--freeze nothing', /^--freeze: expected the name or a glob of parameters below \w+.*, got 'nothing'$/],
      ['--freeze *', /^--freeze: expected parameters that are left to train, got none$/],
    ]
    for (const [more, message] of wrong) await refused(prepared(program, `${words} ${more}`), message)
  })

  test(`${name}: frozen parameters stay, the others move, and a run goes on without the weights that it began with`, async () => {
    const { run, average } = await checkpointOf(family, `${command}-start`, ['a', 'b'])
    const pattern = [...average.stateDict().keys()].find(each => each.endsWith('mlp.fc1.weight'))!
    const out = join(folder, `${command}-out`)
    const words = `${sizes} --out ${out}`
    const start = () => train(program, commandOf(program, `${words} --init ${run} --freeze ${pattern} --freeze *.proj`))
    const said = await quietly(start)
    assert.match(said, new RegExp(`\\nbegins with \\S+ema\\.safetensors \\(${name}.*\\):\\n  taken `))
    assert.match(said, /\nfrozen: \d+ tensors; \d\.\d M of \d\.\d M parameters are trained\n/)
    const { described } = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8'))
    assert.equal([described.settings.init, described.settings.freeze], [run, [pattern, '*.proj']])
    renameSync(run, `${run}-moved`)
    const resume = (more = '') => train(program, commandOf(program, `--out ${out} --resume --steps 2${more}`))
    await refused(resume(` --init ${folder}`), /^--init: expected \S+-start, as the run in \S+ has, got /)
    await refused(
      resume(' --freeze *.proj'),
      /^--freeze: expected \S+fc1\.weight,\*\.proj, as the run in \S+ has, got \*\.proj/,
    )
    await quietly(() => resume())
    const file = (step: number, part: string) => bytesOf(join(out, `checkpoint-0000000${step}`))[`${part}.safetensors`]
    for (const part of ['model', 'ema', 'optimizer']) assert.is.not(file(1, part), file(2, part), part)
    const read = (step: number) =>
      readFileSync(join(out, `checkpoint-0000000${step}`, 'optimizer.safetensors'), 'latin1')
    assert.not.match(read(2), new RegExp(`"exp_avg\\.${pattern.replaceAll('.', '\\.')}"`))
    const { after } = await prepared(
      program,
      `${sizes} --labels no --init ${join(out, 'checkpoint-00000002', 'model.safetensors')}`,
    )
    assert.equal(after.get(pattern), contents(average).get(pattern))
    const free = pattern.replace('fc1', 'fc2')
    assert.is.not(String(after.get(free)), String(contents(average).get(free)))
  })
}

test('a checkpoint of PyTorch in shards, or one file of it', async () => {
  const dit = families.find(({ command }) => command === 'dit')!
  const { average } = await checkpointOf(dit, 'shards-run')
  const shards = join(folder, 'shards')
  mkdirSync(shards)
  const state = [...storable(average.stateDict())]
  const parts = [state.slice(0, 30), state.slice(30)]
  for (const [i, part] of parts.entries())
    await writeSafetensors(join(shards, `model-0000${i + 1}-of-00002.safetensors`), new Map(part))
  const weight_map = Object.fromEntries(
    parts.flatMap((part, i) => part.map(([name]) => [name, `model-0000${i + 1}-of-00002.safetensors`])),
  )
  writeFileSync(join(shards, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }))
  const { after } = await prepared(programOf(dit), `${sizes} --labels no --init ${shards}`)
  assert.equal(after, contents(average))
})

test('--init stands beside no other origin', async () => {
  const maskdm = programOf(families.find(({ command }) => command === 'maskdm')!)
  const { run } = await checkpointOf(maskdm.family as unknown as Family, 'origin')
  await refused(
    prepared(maskdm, `finetune ${sizes} --from ${run} --init ${run}`),
    /^--init: expected none beside --from, got \S+origin$/,
  )
  const { after } = await prepared(maskdm, `finetune ${sizes} --init ${run}`)
  assert.ok(after.size > 0)
  await refused(
    (async () => commandOf(programs.vae as unknown as AnyProgram, '--init x'))(),
    /^unknown option '--init'/,
  )
})

async function refused(promise: Promise<unknown>, message: RegExp): Promise<void> {
  try {
    await promise
  } catch (error) {
    assert.ok(error instanceof UserError, String((error as Error).stack))
    assert.match((error as Error).message, message)
    assert.not((error as Error).message.includes('\n'))
    return
  }
  assert.unreachable(`expected ${message}`)
}

test.run()
