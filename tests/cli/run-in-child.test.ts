/**
 * Ctrl-C as a person presses it: on a program started through tsx that is busy for longer than tsx waits for an answer.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const folder = mkdtempSync(join(tmpdir(), 'demask-child-'))
test.after(() => rmSync(folder, { recursive: true, force: true }))

const [child, interrupt, error] = ['cli/run-in-child', 'training/interrupt', 'io/user-error'].map(
  name => new URL(`../../${name}.ts`, import.meta.url).href,
)
const tsx = fileURLToPath(new URL('../../node_modules/tsx/dist/cli.mjs', import.meta.url))
const saved = join(folder, 'saved')
const waitingPid = join(folder, 'waiting-pid')
const workingPid = join(folder, 'working-pid')

/**
 * A loop with steps of 300 ms that saves when asked to stop; a stubborn one never stops. tsx kills even the waiting process
 * where a busy machine lets it sleep for 30 ms, so exit codes are exact only without that wrapper.
 */
function start(name: string, { stubborn = false, through = 'node' as 'node' | 'tsx' } = {}): ChildProcess {
  const file = join(folder, `${name}.mts`)
  writeFileSync(
    file,
    `import { writeFileSync } from 'node:fs'
    import { runInChild } from '${child}'
    import { Interrupt } from '${interrupt}'
    import { UserError } from '${error}'
    await runInChild(async () => {
      if (process.argv[2] === 'usage') throw new UserError('--steps: expected 1, got 0')
      if (process.argv[2] === 'fail') throw new UserError('data: no such folder')
      writeFileSync(${JSON.stringify(waitingPid)}, String(process.ppid))
      writeFileSync(${JSON.stringify(workingPid)}, String(process.pid))
      const interrupt = new Interrupt(() => console.log('saving'))
      console.log('ready')
      for (;;) {
        const end = performance.now() + 300
        while (performance.now() < end);
        if ((await interrupt.asked()) && !${stubborn}) break
      }
      interrupt.close()
      writeFileSync(${JSON.stringify(saved)}, process.argv[2])
      console.log('done')
    })`,
  )
  const program = through === 'tsx' ? [tsx, file] : ['--import', 'tsx', file]
  return spawn(process.execPath, [...program, name], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    env: { ...process.env, DEMASK_DEBUG: '' },
  })
}

async function outputOf(child: ChildProcess): Promise<{ code: number | null; out: string; err: string }> {
  const result = { out: '', err: '' }
  child.stdout!.on('data', text => (result.out += text))
  child.stderr!.on('data', text => (result.err += text))
  const [code] = await once(child, 'close')
  return { code, ...result }
}

const sleep = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  for (const through of ['node', 'tsx'] as const)
    test(`${signal} through ${through}, repeated by wrappers, is one request to save and stop`, async () => {
      rmSync(saved, { force: true })
      const child = start(signal, { through })
      const output = outputOf(child)
      await once(child.stdout!, 'data')
      for (let i = 0; i < 3; i++) {
        child.kill(signal)
        await sleep(20)
      }
      const { code, out, err } = await output
      assert.equal([out, err], ['ready\nsaving\ndone\n', ''])
      assert.is(readFileSync(saved, 'utf8'), signal)
      if (through === 'node') assert.is(code, signal === 'SIGINT' ? 130 : 143)
    })

test('a second signal ends a program that does not stop', async () => {
  const child = start('stubborn', { stubborn: true })
  const output = outputOf(child)
  await once(child.stdout!, 'data')
  child.kill('SIGINT')
  await once(child.stdout!, 'data')
  await sleep(1100)
  child.kill('SIGINT')
  assert.equal(await output, { code: 130, out: 'ready\nsaving\n', err: '' })
})

test('a program whose waiting process is killed saves all the same', async () => {
  rmSync(saved, { force: true })
  const child = start('orphan')
  const [text] = await once(child.stdout!, 'data')
  assert.match(String(text), /^ready/)
  process.kill(Number(readFileSync(waitingPid, 'utf8')), 'SIGKILL')
  for (let i = 0; i < 100 && !existsSync(saved); i++) await sleep(50)
  assert.is(readFileSync(saved, 'utf8'), 'orphan')
})

test('a program whose output nobody reads any more goes on, and saves', async () => {
  rmSync(saved, { force: true })
  const child = start('unread')
  const output = outputOf(child)
  await once(child.stdout!, 'data')
  child.stdout!.destroy()
  child.kill('SIGINT')
  assert.equal(await output, { code: 130, out: 'ready\n', err: '' })
  assert.is(readFileSync(saved, 'utf8'), 'unread')
})

test('a program that something else killed does not end without a word', async () => {
  const child = start('killed')
  const output = outputOf(child)
  await once(child.stdout!, 'data')
  process.kill(Number(readFileSync(workingPid, 'utf8')), 'SIGKILL')
  const err = 'error: ended by SIGKILL, as a system does when its memory is used up\n'
  assert.equal(await output, { code: 137, out: 'ready\n', err })
})

test('errors and exit codes pass through', async () => {
  assert.equal(await outputOf(start('usage')), { code: 2, out: '', err: 'error: --steps: expected 1, got 0\n' })
  assert.equal(await outputOf(start('fail')), { code: 1, out: '', err: 'error: data: no such folder\n' })
})

test.run()
