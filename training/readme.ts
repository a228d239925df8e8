/**
 * The page that explains a run's folder to whoever opens it next year, and the same for programs. Needs Node.
 */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { anObject, arrayOf, aSize, aString, check, checkOptions } from '../core/arguments.ts'
import { wholeText } from '../io/open-node.ts'
import { replaceFile } from '../io/replace.ts'
import { versions } from './version.ts'

/** Content of the README of a run. */
export interface RunDescription {
  /** Model and data, in a line. */
  readonly title: string
  /** The command that started it. */
  readonly command: string
  /** The command that resumes from its last checkpoint. */
  readonly resume: string
  /** Number of its last step. */
  readonly steps: number
  /** Description as in its checkpoints, for a run that ends before its first. */
  readonly described: object
  /** Description of `samples-<step>.png`, if it does not show samples. */
  readonly pictures?: string
  /** Other files, and what they are. */
  readonly also?: readonly (readonly [name: string, what: string])[]
}

const runFile = 'run.json'

/** Reads run.json; undefined if there is none, as in runs of earlier versions. */
export function readRunFile(run: string): RunFile | undefined {
  try {
    return JSON.parse(wholeText(join(run, runFile)))
  } catch {
    return undefined
  }
}

/** Model and data of a run, its command line, and its versions. */
export interface RunFile extends Pick<RunDescription, 'title' | 'command' | 'resume'> {
  /** Number of its last step; absent in runs of earlier versions. */
  readonly steps?: number
  /** Absent in runs of earlier versions. */
  readonly described?: object
  readonly versions?: Readonly<Record<string, string>>
}

const descriptionKinds = {
  title: aString,
  command: aString,
  resume: aString,
  steps: aSize,
  described: anObject,
  pictures: aString,
  also: arrayOf('pairs of names and words', arrayOf('', aString)),
}

/** Writes `run`/README.md and run.json, replacing earlier ones. Throws UserError where it cannot be written. */
export function writeRunReadme(run: string, description: RunDescription): void {
  check('writeRunReadme', 'run', run, aString)
  checkOptions('writeRunReadme', description, descriptionKinds, ['title', 'command', 'resume', 'steps', 'described'])
  const { title, command, resume, pictures = 'pictures drawn with the averaged weights', also = [] } = description
  const text = `# ${title}

Started with \`${command}\`.
Goes on from its last checkpoint with \`${resume}\`.

| here | what it is |
|---|---|
| \`checkpoint-<step>/\` | the last two checkpoints. Each was given its name only when all of it was on the disk |
| \`checkpoint-<step>/model.safetensors\` | the weights, under the names of the official PyTorch code |
| \`checkpoint-<step>/ema.safetensors\` | their exponential moving average: what samples are drawn with |
| \`checkpoint-<step>/optimizer.safetensors\` | the optimizer's moments |
| \`checkpoint-<step>/state.json\` | the step, the random streams and all options: with the tensors, all that resuming needs |
| \`metrics.jsonl\` | a line a step of what was computed: losses, gradient norm, learning rate; \`clip\` where gradients were scaled down, \`skipped\` where a step was left out. The same seed gives the same bytes |
| \`timing.jsonl\` | a line a step of what the clock said |
| \`events.out.tfevents.…\` | \`metrics.jsonl\` and the samples for \`tensorboard --logdir\`; written anew when the run goes on |
| \`report.html\` | all of it on a page |
| \`run.json\` | how it was started, with which options and versions; \`--config run.json\` starts the same run elsewhere |
| \`loss.png\`, \`samples-<step>.png\` | the loss curve; ${pictures} |
${also.map(([name, what]) => `| \`${name}\` | ${what} |\n`).join('')}
A folder \`.tmp-checkpoint-…\` is a checkpoint that was cut off while it was written. It can be deleted; the next
checkpoint does so too. A file \`.lock-<n>\` says which process works here, or did until it was killed; the next run takes
such a folder over by itself.
`
  mkdirSync(run, { recursive: true })
  replaceFile(join(run, 'README.md'), text)
  replaceFile(join(run, runFile), runFileText(description))
}

/** The text of a run.json. */
export function runFileText({ title, command, resume, steps, described }: RunDescription): string {
  const file: RunFile = { title, command, resume, steps, described, versions: versions() }
  return `${JSON.stringify(file, null, 2)}\n`
}

/** Writes the number of the last step of a resumed run into its run.json, if there is one. */
export function updateRunSteps(run: string, steps: number): void {
  const file = readRunFile(run)
  if (file === undefined || file.steps === steps) return
  replaceFile(join(run, runFile), `${JSON.stringify({ ...file, steps }, null, 2)}\n`)
}
