/**
 * Runs a long program so that Ctrl-C reaches it. Needs Node. tsx, through which these programs are started, kills one that
 * does not answer a signal within 30 ms, and a training step answers after seconds. So the program runs in a child
 * process, and this one only waits: it answers at once, passes the first signal on (interrupt.ts), and ends the child
 * without saving at the second. Wrappers (npx, tsx) repeat a signal: what follows within a second is the same one.
 */

import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { launched } from '../distributed/launcher.ts'
import { main } from './main.ts'
import { ranksIn, runRanks, stopWithStarter } from './run-ranks.ts'

const mark = 'DEMASK_STARTED_BY'
const sameSignalMs = 1000

/**
 * `main` in a child process: arguments, terminal and exit code are those of this one. With --ranks the child is an MPI
 * launcher. Under a launcher, which waits itself and knows only this process, `main` runs here.
 */
export async function runInChild(program: () => void | Promise<void>): Promise<void> {
  const place = launched()
  if (place !== null) {
    if (place.rank === 0) stopWithStarter()
    return main(program)
  }
  const waiting = process.env[mark]
  if (waiting !== undefined) {
    delete process.env[mark] // it is about this process, not about those that it starts
    // Should the waiting process be killed, the run is saved rather than left behind; or not begun.
    if (waiting !== String(process.ppid) || !process.connected) return
    process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
    process.channel?.unref()
    return main(program)
  }
  const ranks = ranksIn(process.argv.slice(2))
  if (ranks !== null) return main(() => runRanks(ranks))
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [mark]: String(process.pid) },
  })
  let asked = Number.POSITIVE_INFINITY
  const pass = (signal: NodeJS.Signals) => {
    const now = performance.now()
    if (now - asked > sameSignalMs) child.kill('SIGKILL')
    else child.kill(signal)
    asked = Math.min(asked, now)
  }
  process.on('SIGINT', pass)
  process.on('SIGTERM', pass)
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve([code, signal]))
  })
  process.off('SIGINT', pass)
  process.off('SIGTERM', pass)
  if (signal === 'SIGKILL' && asked !== Number.POSITIVE_INFINITY)
    process.exitCode = 130 // 128 + SIGINT
  else process.exitCode = code ?? 128 + constants.signals[signal!]
  if (signal !== null && asked === Number.POSITIVE_INFINITY)
    console.error(
      `error: ended by ${signal}${signal === 'SIGKILL' ? ', as a system does when its memory is used up' : ''}`,
    )
}
