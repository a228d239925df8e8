/**
 * A run that is killed, stopped, left without disk space or started twice resumes with the bytes of an unbroken one. The
 * same at many more moments and for every training program: `npm run crash` (crash/run.ts).
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { lockFolder } from '../../io/lock.ts'
import { UserError } from '../../io/user-error.ts'
import { latestCheckpoint, resumePoint } from '../../training/index-node.ts'
import { begun, checkLast, checkTidy, decided, type Fate, live, trainees } from '../crash/life.ts'
import { inFolder } from '../programs/example.ts'

const steps = 53 // a checkpoint after 50, one at the end

test('killed, stopped and out of space, a run ends with the bytes of one that was left alone', () =>
  inFolder(async folder => {
    const [alone, troubled] = ['alone', 'troubled'].map(run => join(folder, run))
    const whole = live(trainees.maskdm, { out: alone, steps, threads: 2 })
    const fates: Fate[] = [
      { signal: 'SIGKILL', from: 'save', after: 0 },
      { signal: 'SIGINT', from: 'save', after: 20 },
      { signal: 'SIGKILL', from: 'save', after: 0 }, // while there is one that could be lost
    ]
    for (const fate of fates) {
      if (latestCheckpoint(troubled)?.step === steps) break // the second signal came that late
      const life = await live(trainees.maskdm, { out: troubled, steps, fate })
      assert.is(life.stderr, '')
      if (fate.signal === 'SIGKILL') assert.is(life.code, null, 'killed')
      checkLast(troubled, life)
    }
    for (const fullAtWrite of [3, 60]) {
      const out = fullAtWrite === 3 ? join(folder, 'full') : troubled
      const before = latestCheckpoint(out)
      const life = await live(trainees.maskdm, { out, steps, fullAtWrite })
      if (before?.step === steps) continue // stopped so late that nothing was left to write
      assert.is(life.code, 1)
      assert.match(life.stderr, /^error: .*no space left on the disk.*\n$/)
      checkLast(out, life)
    }
    const { code, stderr } = await live(trainees.maskdm, { out: troubled, steps })
    assert.equal([code, stderr], [0, ''])
    assert.is((await whole).code, 0)
    for (const out of [alone, troubled]) checkTidy(out)
    assert.equal(decided(troubled, steps), decided(alone, steps))
  }))

test('of two processes in one folder the second refuses, in one line; the first goes on', () =>
  inFolder(async folder => {
    const out = join(folder, 'run')
    let secondIsDone = () => {}
    const until = new Promise<void>(resolve => {
      secondIsDone = resolve
    })
    const first = live(trainees.maskdm, { out, steps: 100_000, until })
    while (!begun(out)) await new Promise(resolve => setTimeout(resolve, 50))
    const second = await live(trainees.maskdm, { out, steps: 60 }).finally(secondIsDone)
    assert.is(second.code, 1)
    assert.match(second.stderr, /^error: \S+run: process \d+ works there since 20\S+Z\n$/)
    const { code, stderr, stdout } = await first
    assert.equal([code, stderr], [130, ''])
    assert.match(stdout, /checkpoint-\d+ after step \d+; go on with: /)
    checkTidy(out)
  }))

const locksIn = (folder: string) => readdirSync(folder).filter(name => name.startsWith('.lock-'))
const owner = (changes: object) =>
  JSON.stringify({ host: hostname(), pid: process.pid, start: '', since: 'now', ...changes })

/** Error of `lockFolder` for a folder with this lock; null if it takes the lock over. */
function refusal(folder: string, text: string): string | null {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, '.lock-7'), text)
  try {
    lockFolder(folder)()
    return null
  } catch (error) {
    assert.instance(error, UserError)
    assert.equal(locksIn(folder), ['.lock-7'])
    return (error as Error).message
  }
}

test('locks of the living are respected, those of the dead are taken over', () =>
  inFolder(async folder => {
    const run = join(folder, 'run')
    const release = lockFolder(run)
    assert.equal(locksIn(run), ['.lock-1'])
    assert.throws(() => lockFolder(run), new RegExp(`run: process ${process.pid} works there since 20`))
    release()
    assert.not(existsSync(run), 'a folder that was made for nothing')

    const child = spawn('true')
    await once(child, 'close')
    assert.is(refusal(run, owner({ pid: child.pid })), null, 'ended')
    assert.equal(locksIn(run), [])
    if (process.platform === 'linux')
      assert.is(refusal(run, owner({ start: 'another boot 1' })), null, 'its number went to another process')
    assert.is(refusal(run, ''), null, 'killed before it could write')
    assert.is(refusal(run, '{"pid": "all"'), null, 'damaged')
    assert.match(`${refusal(run, owner({}))}`, /run: process \d+ works there since now$/)
    const elsewhere = /run: process 1 on other works there since now; if it does no more, delete \S+run\/\.lock-7$/
    assert.match(`${refusal(run, owner({ host: 'other', pid: 1 }))}`, elsewhere)
    assert.throws(() => resumePoint(run, false), elsewhere)
    const container =
      /run: process \d+ in another container of \S+ works there since now; if it does no more, delete \S+run\/\.lock-7$/
    assert.match(`${refusal(run, owner({ pid: 1, namespace: 'pid:[1]', start: 'another boot 1' }))}`, container)
    assert.match(`${refusal(run, owner({ pid: child.pid, namespace: 'pid:[1]' }))}`, container)
  }))

test('of many processes that want a folder at once one gets it, with a dead lock in the way too', () =>
  inFolder(async folder => {
    const run = join(folder, 'run')
    for (const stale of [false, true]) {
      mkdirSync(run, { recursive: true })
      if (stale) writeFileSync(join(run, '.lock-4'), owner({ start: 'another boot 1' }))
      const start = join(folder, `start-${stale}`)
      const code = `
        import { existsSync } from 'node:fs'
        import { lockFolder } from './io/lock.ts'
        process.stdout.write('.')
        while (!existsSync(${JSON.stringify(start)})) await new Promise(resolve => setTimeout(resolve, 2))
        try { lockFolder(${JSON.stringify(run)}); console.log('mine') } catch (error) { console.log(error.message) }
        process.stdin.resume() // holds it until told to end`
      const children = Array.from({ length: 4 }, () =>
        spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
          cwd: fileURLToPath(new URL('../..', import.meta.url)),
        }),
      )
      const said = children.map(() => '')
      for (const [i, child] of children.entries())
        child.stdout.on('data', text => {
          said[i] += text
        })
      const all = async (wanted: (text: string) => boolean) => {
        while (!said.every(wanted)) await new Promise(resolve => setTimeout(resolve, 20))
      }
      await all(text => text !== '')
      writeFileSync(start, '')
      await all(text => text.endsWith('\n'))
      assert.is(said.filter(text => text === '.mine\n').length, 1, said.join(''))
      assert.is(said.filter(text => /works there since/.test(text)).length, 3, said.join(''))
      assert.is(locksIn(run).length, 1)
      const ended = children.map(child => once(child, 'close'))
      for (const child of children) child.stdin.end()
      await Promise.all(ended)
      assert.equal(locksIn(run), [])
    }
  }))

test.run()
