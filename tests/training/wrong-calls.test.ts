/**
 * Every public function and class of training answers wrong calls in one line that begins with its name, or with the path of
 * a run that is not there. One that has no right call here fails the test. Needs Node.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readTrainingCommand } from '../../cli/train-flags.ts'
import { backward, cpu, createShapes, mean, ready, reshape, rng, scope, square, type Tensor } from '../../core/index.ts'
import { mdt } from '../../models/index.ts'
import { AdamW, Ema, Linear } from '../../nn/index.ts'
import * as training from '../../training/index-node.ts'
import { constructing, type RightCall, testCalls, workInOwnFolder } from '../core/wrong-calls.ts'
import { quietly } from './printed.ts'

await ready({ backend: 'wasm', threads: 1 })
workInOwnFolder(test, 'training')

/** The same object as one that is replaced as a whole. */
const opaque = <T extends object>(value: T): T => Object.assign(Object.create({}), value)
let made = 0
const fresh = () => `run-${made++}`

const linear = () => new Linear(12, 2, { rng: rng(0) })
const trained = () => {
  const model = linear()
  return { model, ema: new Ema(model, linear(), { decay: () => 0.5 }), optimizer: new AdamW(model.namedParameters()) }
}
const data = { channels: 3, size: 2 }
const [rows, timing] = [[{ step: 1, loss: 0.5 }], { step: 1, seconds: 0.5, time: 0.5 }]
const readme = { title: 'a model', command: 'go', resume: 'go on' }
const described = { program: 'train mdt', pictures: 3, classes: ['grey'], settings: { data: 'pictures' } }
const runOptions = () => ({
  world: undefined,
  shardOptimizer: false,
  folder: fresh(),
  release: () => {},
  steps: 3,
  minutes: 1.5,
  settings: { batch: 1, parts: 1, maxNorm: null, skipNonfinite: 0 },
  rng: rng(0),
  backend: cpu,
  data,
  labelled: false,
  heldOut: null,
  from: undefined,
  start: undefined,
  previous: undefined,
  described,
  readme,
  notes: ['a note', null],
  columns: (terms: object) => terms,
  curves: ['loss'],
  speed: () => 'fast',
  advice: () => [],
  show: async () => {},
})
const own = () => ({
  folder: fresh(),
  steps: 3,
  minutes: 1.5,
  rng: rng(0),
  notes: ['a note'],
  heldOut: null,
  labelled: false,
  curves: ['loss'],
  data,
  columns: (terms: object) => terms,
  show: async () => {},
  title: 'a model',
  settings: { batch: 1 },
  resume: false,
})

const state = trained()
const compute = ({ images, report }: training.StepPart) => {
  const loss = scope(() => mean(square(state.model.forward(reshape(images, [1, 12])))))
  backward(loss)
  report({ loss: loss.detach() })
}
const update = (losses: readonly Tensor[]) => state.optimizer.step({ losses })
const inputs = () => ({
  step: 0,
  progress: 0.5,
  images: new Float32Array(12),
  shape: [1, 3, 2, 2],
  labels: null,
  parts: 1,
  own: [0, 1],
  rng: rng(0),
})

const saved = () => ({
  model: state.model.stateDict(),
  ema: state.ema.average.stateDict(),
  optimizer: state.optimizer.stateDict(),
})
const checkpoint = await training.saveCheckpoint('saved', saved(), { step: 3, emaUpdates: 3 } as { step: number })
await training.writeGrid('grid.png', new Float32Array(12), [1, 3, 2, 2])
for (const name of ['saved', 'other']) {
  training.writeRunReadme(name, { ...readme, steps: 3, described })
  const log = new training.MetricsLog(name, 3)
  log.write(rows[0], timing)
  log.close()
}

const pictures = { inputSize: 8, inChannels: 3, numClasses: 0 }
const options = opaque(mdt.options('tiny', pictures))
const settings = training.newSettings(mdt, { preset: 'tiny', batch: 2, size: 8 })
const program = opaque(training.programs.mdt)
const command = () => {
  const words = `--preset tiny --size 8 --batch 2 --steps 1 --backend wasm --threads 1 --out ${fresh()}`
  return opaque(readTrainingCommand(training.programs.mdt, 'demask train mdt', words.split(' ')))
}
const counted = () => opaque({ family: mdt, options, settings, images: { channels: 3, size: 8 }, labelled: false })
const request = () => ({ seeds: [0], labels: null, sampler: 'ddim', steps: 2, clip: true })
const stream = () => ({ write: () => true })
const panels = () => [{ title: 'points', points: [0, 1, 2, 3], classes: [0, 1] }]

type Row = readonly [args: () => readonly unknown[], accepts?: readonly string[], paths?: readonly string[]]

const functions: Record<string, Row> = {
  arithmetic: [() => [cpu]],
  backendWarning: [() => [{ backend: 'cpu' }, cpu], ['0.backend', '0 object']],
  checkSameData: [
    () => ['saved', described, described, true],
    ['0 string', '1.program', '1.settings', '2.program', '2.settings'],
  ],
  countGeneration: [() => [opaque(mdt), options, request()]],
  countTraining: [() => [counted(), { samples: 1, backend: createShapes({ fused: true }) }]],
  describeRun: [() => [program, command()]],
  dispatchStep: [() => [inputs(), [...state.model.parameters()], compute, update]],
  duration: [() => [90.5]],
  familyProgram: [() => [opaque(mdt), { about: 'Trains.', examples: [['', 'a model']] }], ['1.about']],
  latestCheckpoint: [() => ['saved'], ['0 string']],
  listRuns: [() => ['.'], [], ['0 string']],
  loadCheckpoint: [() => [checkpoint], [], ['0 string']],
  newSettings: [() => [opaque(mdt), { preset: 'tiny', batch: 2, labels: 'no' }, 8]],
  previousRun: [
    () => ['saved', { path: checkpoint, step: 3 }, { resume: false, program: 'train mdt' }],
    ['0 string', '1.path', '1.step', '2.program'],
  ],
  readRows: [() => ['saved/metrics.jsonl'], ['0 string']],
  readState: [() => [checkpoint], [], ['0 string']],
  restore: [
    () => [{ path: checkpoint }, { ...state, guard: new training.StepGuard('saved', state.model, guarding) }],
    [],
    ['0.path'],
  ],
  runStep: [() => [inputs(), [...state.model.parameters()], compute, update]],
  saveCheckpoint: [() => ['saved', saved(), { step: 3 }], ['0 string']],
  settingsTable: [() => [opaque(mdt)]],
  writeComparison: [() => ['compared.html', ['saved', 'other']], ['0 string']],
  writeGrid: [() => ['grid.png', new Float32Array(12), [1, 3, 2, 2], { columns: 1, magnify: 2 }], ['0 string']],
  writeLossCurve: [() => ['loss.png', rows, ['loss']], ['0 string']],
  writeReport: [() => ['saved', rows], ['1 arguments'], ['0 string']],
  writeRunReadme: [
    () => ['described', { ...readme, steps: 3, described, pictures: 'faces', also: [['a', 'b']] }],
    ['0 string', '1.title', '1.command', '1.resume', '1.described', '1.pictures'],
  ],
  writeScatter: [() => ['points.png', panels()], ['0 string']],
}

const guarding = { maxNorm: 1.5, skipNonfinite: 0 }
const guard = () => new training.StepGuard('saved', state.model, guarding)
const progress = () => new training.Progress({ total: 3, stream: stream() as unknown as NodeJS.WriteStream })
const outcome = () => ({ step: 1, gradNorm: 0.5, finite: true, replay: () => {}, agree: () => null })
/** Ends a run before its first step. */
async function end(run: training.Run): Promise<void> {
  for await (const _ of run.steps()) break
}
const started = () => training.startRun(own() as training.OwnRun, trained())
const withLog = (use: (log: training.MetricsLog) => void) => {
  const log = new training.MetricsLog(fresh(), 0)
  try {
    use(log)
  } finally {
    log.close()
  }
}
const { MetricsLog, Progress, StepGuard } = training

/** Classes, methods, and functions whose result must be closed, by the name that their errors begin with. */
const more: Record<string, RightCall> = {
  startRun: {
    call: async (...args: Parameters<typeof training.startRun>) => quietly(() => end(training.startRun(...args))),
    args: () => [own(), trained()],
    accepts: ['0.folder', '0.title'],
  },
  Run: {
    call: async (...args: ConstructorParameters<typeof training.Run>) => quietly(() => end(new training.Run(...args))),
    args: () => [runOptions(), trained()],
    accepts: ['0.folder', '0.previous'],
  },
  'Run.commit': {
    call: async (...args: Parameters<training.Run['commit']>) =>
      quietly(async () => {
        const run = started()
        for await (const _ of run.steps()) {
          await run.commit(...args)
          break
        }
      }),
    args: () => [0, { at: async () => ({ images: new Float32Array(12) }), shareOf: () => '' }, compute, update],
  },
  Interrupt: {
    call: (onAsked: unknown) => new training.Interrupt(onAsked as () => void).close(),
    args: () => [() => {}],
    accepts: ['0 undefined', '0 arguments'],
  },
  MetricsLog: {
    call: (run: string, step: number) => new MetricsLog(run, step).close(),
    args: () => [fresh(), 1],
    accepts: ['0 string'],
  },
  'MetricsLog.picture': {
    call: (path: string, step: number) => withLog(log => log.picture(path, step)),
    args: () => ['grid.png', 1],
    paths: ['0 string'],
  },
  'MetricsLog.write': {
    call: (...args: Parameters<training.MetricsLog['write']>) => withLog(log => log.write(...args)),
    args: () => [rows[0], timing],
    accepts: ['0.loss', '1.seconds', '1.time'],
  },
  Progress: {
    call: constructing(Progress as unknown as RightCall['call']),
    args: () => [{ total: 3, done: 0, minutes: 1.5, stream: stream() }],
  },
  'Progress.log': { call: (text: string) => progress().log(text), args: () => ['text'], accepts: ['0 string'] },
  'Progress.note': { call: (text: string) => progress().note(text), args: () => ['text'], accepts: ['0 string'] },
  'Progress.update': {
    call: (...args: Parameters<training.Progress['update']>) => progress().update(...args),
    args: () => [1, 0.5, 2.5],
    accepts: ['1 null'],
  },
  StepGuard: {
    call: constructing(StepGuard as unknown as RightCall['call']),
    args: () => ['saved', state.model, guarding],
    accepts: ['0 string'],
  },
  'StepGuard.judge': {
    call: (...args: Parameters<training.StepGuard['judge']>) => guard().judge(...args),
    args: () => [outcome(), progress()],
  },
  openDryRun: {
    call: async (...args: Parameters<typeof training.openDryRun>) => quietly(() => training.openDryRun(...args)),
    args: () => [program, command()],
  },
  openRun: {
    call: async (...args: Parameters<typeof training.openRun>) => (await training.openRun(...args)).close(),
    args: () => [program, command()],
  },
  resumePoint: {
    call: (path: string, resume: boolean) => training.resumePoint(path, resume).release(),
    args: () => [fresh(), false],
    accepts: ['0 string'],
  },
  train: {
    call: async (...args: Parameters<typeof training.train>) => quietly(() => training.train(...args)),
    args: () => [program, command(), training.openDryRun],
    accepts: ['2 undefined'],
  },
}

const named = training as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(test, {
  ...more,
  ...Object.fromEntries(
    Object.entries(functions).map(([name, [args, accepts, paths]]) => [
      name,
      { call: named[name], args, accepts, paths },
    ]),
  ),
})

test('every public function and class has a right call', () => {
  const missing = Object.entries(training)
    .filter(([, value]) => typeof value === 'function' && value.length > 0)
    .map(([name]) => name)
    .filter(name => !(name in functions || name in more))
  assert.equal(missing, [])
})

test.run()
