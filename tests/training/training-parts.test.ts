/** The parts around the training loop: checkpoints that are whole or not there, logs, pictures, signals, messages. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu } from '../../core/backends/cpu/backend.ts'
import { type Tensor, tensor } from '../../core/tensor.ts'
import { errorLine, UserError } from '../../io/user-error.ts'
import {
  duration,
  latestCheckpoint,
  loadCheckpoint,
  MetricsLog,
  Progress,
  readRows,
  readState,
  saveCheckpoint,
  writeGrid,
  writeLossCurve,
  writeRunReadme,
  writeScatter,
} from '../../training/index-node.ts'

const root = mkdtempSync(join(tmpdir(), 'demask-training-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))
const repository = fileURLToPath(new URL('../..', import.meta.url))
let folders = 0
const fresh = () => join(root, String(folders++))

const values = (...numbers: number[]) => tensor(Float32Array.from(numbers), { backend: cpu })
const contents = (step: number, size = 3) => ({
  model: new Map([['w', values(...new Array(size).fill(step))]]),
  ema: new Map([['w', values(step / 2)]]),
  optimizer: new Map([
    ['w.m', values(-step, 0)],
    ['t', tensor(Int32Array.of(step), { dtype: 'i32', backend: cpu })],
  ]),
})

/** Throws (or rejects with) a UserError of one line that matches. */
async function refused(action: () => unknown, message: RegExp): Promise<void> {
  try {
    await action()
  } catch (error) {
    assert.match((error as Error).message, message)
    assert.not.match((error as Error).message, /\n/)
    assert.instance(error, UserError)
    return
  }
  assert.unreachable('accepted')
}

/** A program of these lines, which can import from the repository. */
function program(code: string, env: Record<string, string> = {}): ChildProcess {
  const args = ['--import', 'tsx', '--input-type=module', '-e', code]
  return spawn(process.execPath, args, { cwd: repository, env: { ...process.env, DEMASK_DEBUG: '', ...env } })
}

async function outputOf(child: ChildProcess): Promise<{ code: number | null; out: string; err: string }> {
  const result = { out: '', err: '' }
  child.stdout!.on('data', text => (result.out += text))
  child.stderr!.on('data', text => (result.err += text))
  const [code] = await once(child, 'close')
  return { code, ...result }
}

test('a checkpoint holds what it was given, and the last two are kept', async () => {
  const run = fresh()
  assert.is(latestCheckpoint(run), undefined)
  for (const step of [10, 20, 30]) {
    const path = await saveCheckpoint(run, contents(step), { step, seed: 7, nested: { key: [1, 2] } })
    assert.equal(latestCheckpoint(run), { path, step })
  }
  assert.equal(readdirSync(run).sort(), ['checkpoint-00000020', 'checkpoint-00000030'])
  const { path } = latestCheckpoint(run)!
  assert.equal(readdirSync(path).sort(), [
    'ema.safetensors',
    'model.safetensors',
    'optimizer.safetensors',
    'state.json',
  ])
  const { state, model, ema, optimizer } = loadCheckpoint(path)
  assert.equal(state, { step: 30, seed: 7, nested: { key: [1, 2] } })
  assert.equal(model.get('w')!.data, Float32Array.of(30, 30, 30))
  assert.equal(ema.get('w')!.data, Float32Array.of(15))
  assert.equal(optimizer.get('w.m')!.data, Float32Array.of(-30, 0))
  assert.equal(optimizer.get('t')!.data, Int32Array.of(30))
})

test('what a cut-off write left behind is no checkpoint, and goes with the next save', async () => {
  const run = fresh()
  await saveCheckpoint(run, contents(5), { step: 5 })
  mkdirSync(join(run, '.tmp-checkpoint-checkpoint-00000009'))
  writeFileSync(join(run, '.tmp-checkpoint-checkpoint-00000009/model.safetensors'), 'half')
  assert.is(latestCheckpoint(run)!.step, 5)
  await saveCheckpoint(run, contents(6), { step: 6 })
  assert.equal(readdirSync(run).sort(), ['checkpoint-00000005', 'checkpoint-00000006'])
})

test('saving a step that is there already changes nothing', async () => {
  const run = fresh()
  const path = await saveCheckpoint(run, contents(5), { step: 5 })
  assert.is(await saveCheckpoint(run, contents(6), { step: 5 }), path)
  assert.is(loadCheckpoint(path).model.get('w')!.data[0], 5)
})

test('a disk that fills up while a checkpoint is written costs that checkpoint only', async () => {
  const run = fresh()
  const good = await saveCheckpoint(run, contents(1), { step: 1 })
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const failing = values(1)
  failing.data = () => Promise.reject(full)
  const broken = { ...contents(2), ema: new Map<string, Tensor>([['w', failing]]) }
  const message =
    /checkpoint-00000002: .* could not be written: no space left on the disk; the last good one is .*-00000001$/
  await refused(() => saveCheckpoint(run, broken, { step: 2 }), message)
  assert.equal(readdirSync(run), ['checkpoint-00000001'])
  assert.is(loadCheckpoint(good).state.step, 1)
})

test('the same on a file system that is really full, for logs too', async () => {
  const run = fresh()
  mkdirSync(run)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', run], { stdio: 'ignore' })
  } catch {
    console.log('skipped: mounting a small tmpfs needs root')
    return
  }
  try {
    const good = await saveCheckpoint(run, contents(1, 10_000), { step: 1 })
    const log = new MetricsLog(run, 1)
    const message = /checkpoint-00000002: .* no space left on the disk; the last good one is .*-00000001$/
    await refused(() => saveCheckpoint(run, contents(2, 100_000), { step: 2 }), message)
    const [checkpoint, events, ...logs] = readdirSync(run).sort()
    assert.match(events, /^events\./)
    assert.equal([checkpoint, ...logs], ['checkpoint-00000001', 'metrics.jsonl', 'timing.jsonl'])
    assert.is(loadCheckpoint(good).model.get('w')!.data[9_999], 1)
    await refused(() => {
      for (let step = 2; step < 20_000; step++) log.write({ step, loss: step / 7 }, { step, seconds: 0.1 })
    }, /(metrics\.jsonl|timing\.jsonl|events\.[\w.]+): could not be written: no space left on the disk/)
    log.close()
    const rows = readRows(join(run, 'metrics.jsonl'))
    assert.ok(rows.length > 100 && rows.every((row, i) => row.step === i + 2))
  } finally {
    execFileSync('umount', [run])
  }
})

test('killed at any moment, a run has whole checkpoints only', async () => {
  const run = fresh()
  const code = `
    import { tensor } from './core/tensor.ts'
    import { latestCheckpoint, saveCheckpoint } from './training/checkpoint.ts'
    for (let step = (latestCheckpoint(${JSON.stringify(run)})?.step ?? 0) + 1; ; step++) {
      const part = new Map([['w', tensor(new Float32Array(20_000).fill(step))]])
      await saveCheckpoint(${JSON.stringify(run)}, { model: part, ema: part, optimizer: part }, { step })
      if (step % 3 === 0) process.stdout.write('.')
    }`
  let before = 0
  for (const delay of [0, 3, 7, 12]) {
    const child = program(code)
    await once(child.stdout!, 'data')
    await new Promise(resolve => setTimeout(resolve, delay))
    child.kill('SIGKILL')
    await once(child, 'close')
    const { path, step } = latestCheckpoint(run)!
    const { state, model, ema, optimizer } = loadCheckpoint(path)
    for (const part of [model, ema, optimizer]) assert.equal(part.get('w')!.data, new Float32Array(20_000).fill(step))
    assert.is(state.step, step)
    assert.ok(step > before)
    before = step
  }
})

test('damaged checkpoints are refused with the file in question', async () => {
  const run = fresh()
  const path = await saveCheckpoint(run, contents(4), { step: 4 })
  truncateSync(join(path, 'ema.safetensors'), 40)
  assert.throws(() => loadCheckpoint(path), /ema\.safetensors: .*cut short/)
  rmSync(join(path, 'ema.safetensors'))
  await refused(() => loadCheckpoint(path), /ema\.safetensors: expected a part of a checkpoint: no such file/)
  writeFileSync(join(path, 'state.json'), '{"step": 5}')
  await refused(() => readState(path), /state\.json: expected a step of 4, got 5/)
  writeFileSync(join(path, 'state.json'), '{"step": 4')
  await refused(() => readState(path), /state\.json: expected the state of a checkpoint: /)
  rmSync(join(path, 'state.json'))
  await refused(() => readState(path), /state\.json: expected the state of a checkpoint: no such file or folder/)
  writeFileSync(join(root, 'file'), '')
  await refused(() => saveCheckpoint(join(root, 'file'), contents(1), { step: 1 }), /there is no earlier one/)
})

test('logs are cut back to the step of the checkpoint, byte for byte', () => {
  const rows = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, i) => ({ step: from + i, loss: 1 / (from + i) }))
  const writeRows = (log: MetricsLog, from: number, to: number) => {
    for (const row of rows(from, to)) log.write(row, { step: row.step, seconds: 0.5 })
    log.sync()
    log.close()
  }
  fc.assert(
    fc.property(fc.nat(12), fc.nat(12), fc.nat(40), (first, more, cut) => {
      const [whole, resumed] = [fresh(), fresh()]
      writeRows(new MetricsLog(whole, 0), 1, first + more)
      writeRows(new MetricsLog(resumed, 0), 1, first + more) // the run continued after its checkpoint,
      const file = join(resumed, 'metrics.jsonl')
      const bytes = readFileSync(file)
      const past = Buffer.from(
        rows(1, first)
          .map(row => `${JSON.stringify(row)}\n`)
          .join(''),
      ).length
      truncateSync(file, Math.max(bytes.length - cut, past)) // and was killed in the middle of a line
      writeRows(new MetricsLog(resumed, first), first + 1, first + more)
      assert.equal(readFileSync(file), bytes)
      assert.equal(readRows(file), rows(1, first + more))
      assert.is(readRows(join(resumed, 'timing.jsonl')).length, first + more)
    }),
    { numRuns: 30 },
  )
})

test('a log with a damaged line before its end is left alone', async () => {
  const run = fresh()
  mkdirSync(run)
  const text = '{"step":1,"loss":2}\n{"step":2,"lo\n{"step":3,"loss":1}\n'
  writeFileSync(join(run, 'metrics.jsonl'), text)
  await refused(
    () => new MetricsLog(run, 3),
    /metrics\.jsonl:2: expected a JSON object with a step, got '{"step":2,"lo'/,
  )
  assert.is(readFileSync(join(run, 'metrics.jsonl'), 'utf8'), text)
})

test('progress is a line now and then where there is no terminal, and a bar where there is', () => {
  const show = (isTTY: boolean) => {
    let text = ''
    const stream = new Writable({
      write(chunk, _, done) {
        text += chunk
        done()
      },
    })
    const progress = new Progress({
      total: 100,
      done: 90,
      stream: Object.assign(stream, { isTTY }) as NodeJS.WriteStream,
    })
    for (let step = 91; step <= 100; step++) progress.update(step, 0.25, 64)
    progress.log('saved')
    progress.close()
    return text
  }
  const lines = show(false).trimEnd().split('\n')
  assert.is(lines.length, 3)
  assert.match(lines[0], /^step 91\/100 {2}[\d.]+ img\/s {2}loss 0\.2500 {2}ETA \d+s$/)
  assert.match(lines[1], /^step 100\/100 .*ETA 0s$/)
  assert.is(lines[2], 'saved')
  assert.match(show(true), /█+ 100\/100 {2}[\d.]+ img\/s {2}loss 0\.2500 {2}ETA 0s/)
  assert.equal([0, 59.4, 61, 3599, 7500].map(duration), ['0s', '59s', '1m 01s', '59m 59s', '2h 05m'])
})

test('a grid shows each image at its place, magnified, with gaps of one pixel', async () => {
  const path = join(root, 'grid.png')
  const N = 3
  const images = Float32Array.from(
    { length: N * 3 * 4 },
    (_, i) => [-1, 0, 1.5][(Math.floor(i / 4) + Math.floor(i / 12)) % 3],
  )
  await writeGrid(path, images, [N, 3, 2, 2], { columns: 2, magnify: 3 })
  const { data, info } = await sharp(path).raw().toBuffer({ resolveWithObject: true })
  assert.equal([info.width, info.height, info.channels], [13, 13, 3])
  const at = (x: number, y: number) => Array.from(data.subarray(3 * (13 * y + x), 3 * (13 * y + x) + 3))
  assert.equal(at(0, 0), [0, 128, 255])
  assert.equal(at(5, 5), [0, 128, 255])
  assert.equal(at(6, 3), [208, 208, 208])
  assert.equal(at(7, 0), [128, 255, 0])
  assert.equal(at(0, 7), [255, 0, 128])
  assert.equal(at(12, 12), [208, 208, 208])
  await writeGrid(path, Float32Array.of(-1, 1), [2, 1, 1, 1])
  assert.equal(
    Array.from((await sharp(path).removeAlpha().toColourspace('srgb').raw().toBuffer()).subarray(0, 3)),
    [0, 0, 0],
  )
  await refused(
    () => writeGrid(join(root, 'no/where.png'), images, [N, 3, 2, 2]),
    /where\.png: could not be written: no such/,
  )
})

test('charts are pictures with ink in the right places', async () => {
  const path = join(root, 'chart.png')
  /** Columns in which a pixel is of about this colour. */
  const columnsOf = async (r: number, g: number, b: number) => {
    const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    const columns = new Set<number>()
    for (let i = 0; i < data.length; i += 3)
      if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 12)
        columns.add((i / 3) % info.width)
    return { width: info.width, height: info.height, columns: columns.size }
  }
  const rows = Array.from({ length: 2000 }, (_, i) => ({ step: i + 1, loss: Math.exp(-i / 300) + 0.05, full: 0.1 }))
  await writeLossCurve(path, rows, ['loss', 'full'])
  const blue = await columnsOf(0x1f, 0x6f, 0xb4)
  assert.ok(blue.width > 1400 && blue.height > 800)
  assert.ok(blue.columns > 1400, `${blue.columns} columns of the loss`)
  assert.ok((await columnsOf(0xd9, 0x66, 0x1f)).columns > 1400)
  assert.is((await columnsOf(0x2a, 0x91, 0x52)).columns, 0)
  await writeLossCurve(path, [], ['loss'])
  assert.ok(existsSync(path))
  await writeLossCurve(
    path,
    [
      { step: 1, loss: NaN },
      { step: 2, loss: -1 },
    ],
    ['loss'],
  )
  await writeScatter(path, [
    { title: 'data', points: Float32Array.of(-1, -1, 1, 1), classes: [0, 1] },
    { title: 'samples', points: Float32Array.of(0, 0) },
  ])
  const { width, height } = await columnsOf(0, 0, 0)
  assert.ok(width > 1.8 * height)
})

test('the folder of a run explains itself', () => {
  const run = fresh()
  writeRunReadme(run, {
    title: 'MDT-S/2 on emoji',
    command: 'npx tsx train',
    resume: 'npx tsx train --resume',
    steps: 30,
    described: {},
  })
  const text = readFileSync(join(run, 'README.md'), 'utf8')
  for (const part of ['MDT-S/2 on emoji', 'train --resume', 'ema.safetensors', 'metrics.jsonl'])
    assert.ok(text.includes(part))
})

test('an error ends a program with one line and exit code 1, with its stack only where asked for', async () => {
  const failing = (error: string) =>
    `import { main } from './cli/main.ts'; import { UserError } from './io/user-error.ts'; await main(async () => { throw ${error} })`
  const plain = await outputOf(program(failing(`new UserError('data: no such\\n  folder')`)))
  assert.equal(plain, { code: 1, out: '', err: 'error: data: no such folder\n' })
  const debug = await outputOf(program(failing(`new UserError('x')`), { DEMASK_DEBUG: '1' }))
  assert.is(debug.code, 1)
  assert.match(debug.err, /^error: x\nUserError: x\n {4}at /)
  assert.is(errorLine(new TypeError('f is not a function')), 'error: f is not a function (DEMASK_DEBUG=1 shows where)')
  const flag = Object.assign(new TypeError("Unknown option '--nope'"), { code: 'ERR_PARSE_ARGS_UNKNOWN_OPTION' })
  assert.is(errorLine(flag), "error: Unknown option '--nope'")
})

test.run()
