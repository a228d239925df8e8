/**
 * One process at a time in the folder of a run. Needs Node. A lock is a file `.lock-<n>` that says whose it is; making
 * such a file fails where it exists, so of two processes that start together one wins. A process that was killed leaves
 * its lock behind: the next one sees that its owner is gone, takes the next number and removes the old file.
 *
 * On a network file system: NFS from version 3 on and SMB make a file for one of two hosts only, so the lock holds there
 * too. A process of another host cannot be seen from here, nor one of another container (PID namespace) under the same host
 * name, so its lock is never taken over: the message names the file to delete.
 */

import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { constants, hostname } from 'node:os'
import { join } from 'node:path'
import { aString, check } from '../core/arguments.ts'
import { wholeText } from './open-node.ts'
import { reason, UserError } from './user-error.ts'

/** Owner of a lock, as its file names it. */
interface Owner {
  readonly host: string
  readonly pid: number
  /** The PID namespace in which that number counts; '' where the system does not say. */
  readonly namespace: string
  /** Start time, which distinguishes the process from a later one with the same pid; '' where the system has none. */
  readonly start: string
  /** For people: when the lock was taken. */
  readonly since: string
}

interface Lock {
  readonly path: string
  readonly number: number
  /** Null where nothing was written: its owner was killed, or the disk was full. */
  readonly owner: Owner | null
}

const named = /^\.lock-(\d+)$/
/** Between the making of a lock and its text lie microseconds; one without text for so long has lost its owner. */
const textWithinMs = 1000

/**
 * Takes the folder, made where it is missing, until the process ends or the function that is returned is called. Throws
 * UserError where another process has it, and where nothing can be written.
 */
export function lockFolder(folder: string): () => void {
  check('lockFolder', 'folder', folder, aString)
  let made: string | undefined
  let own: Lock
  try {
    made = mkdirSync(folder, { recursive: true })
    own = take(folder)
  } catch (error) {
    if (made !== undefined) removeEmpty(folder)
    if (error instanceof UserError) throw error
    throw new UserError(`${folder}: could not be locked: ${reason(error)}`, { cause: error })
  }
  let held = true
  const release = () => {
    if (!held) return // another process may have a lock of this name by now
    held = false
    rmSync(own.path, { force: true })
    if (made !== undefined) removeEmpty(folder)
    process.off('exit', release)
    for (const signal of signals) process.off(signal, onSignal)
  }
  process.on('exit', release)
  for (const signal of signals) process.on(signal, onSignal)
  return release
}

/** True if a process that lives, here or where it cannot be seen from here, has the folder. */
export function isLocked(folder: string): boolean {
  return locks(folder).some(({ owner }) => owner !== null && lives(owner))
}

const signals = ['SIGINT', 'SIGTERM'] as const

/** Removes the locks. Then ends the process, unless the program has another listener for the signal. */
function onSignal(signal: (typeof signals)[number]): void {
  const others = process.listeners(signal).some(listener => listener !== onSignal)
  if (!others) process.exit(128 + constants.signals[signal])
}

function take(folder: string): Lock {
  for (;;) {
    const before = locks(folder)
    refuse(folder, before)
    const number = 1 + before.reduce((most, { number }) => Math.max(most, number), 0)
    const own = make(folder, number)
    if (own === null) continue // another process was faster
    // Whoever took the folder between our look and our lock has it.
    const others = locks(folder).filter(({ path }) => path !== own.path)
    try {
      refuse(folder, others)
    } catch (error) {
      rmSync(own.path)
      throw error
    }
    for (const { path } of others) rmSync(path, { force: true })
    return own
  }
}

function refuse(folder: string, held: readonly Lock[]): void {
  for (const { path, owner } of held) {
    if (owner === null || !lives(owner)) continue
    const { host, pid, since } = owner
    if (isVisible(owner)) throw new UserError(`${folder}: process ${pid} works there since ${since}`)
    const place = host === hostname() ? `in another container of ${host}` : `on ${host}`
    throw new UserError(
      `${folder}: process ${pid} ${place} works there since ${since}; if it does no more, delete ${path}`,
    )
  }
}

function locks(folder: string): Lock[] {
  return readdirSync(folder).flatMap(name => {
    const number = named.exec(name)?.[1]
    if (number === undefined) return []
    const path = join(folder, name)
    return { path, number: Number(number), owner: readOwner(path) }
  })
}

function readOwner(path: string): Owner | null {
  for (const end = performance.now() + textWithinMs; ; ) {
    try {
      const { host, pid, namespace = ownNamespace, start, since } = JSON.parse(wholeText(path))
      if (Number.isSafeInteger(pid) && pid > 0)
        return { host: `${host}`, pid, namespace: `${namespace}`, start: `${start}`, since: `${since}` }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null // given back meanwhile
    }
    if (performance.now() > end) return null
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
  }
}

/** A lock of this process, or null where there is one of that number. */
function make(folder: string, number: number): Lock | null {
  const path = join(folder, `.lock-${number}`)
  const { pid } = process
  const since = new Date().toISOString()
  const owner = { host: hostname(), pid, namespace: ownNamespace, start: startOf(pid), since }
  let descriptor: number
  try {
    descriptor = openSync(path, 'wx')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null
    throw error
  }
  try {
    writeSync(descriptor, `${JSON.stringify(owner)}\n`)
  } catch (error) {
    rmSync(path)
    throw error
  } finally {
    closeSync(descriptor)
  }
  return { path, number, owner }
}

/** The PID namespace of this process: 'pid:[4026531836]'. */
const ownNamespace = namespaceOf()

function namespaceOf(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}

/** True if a process of this owner would be seen from here. */
function isVisible({ host, namespace }: Owner): boolean {
  return host === hostname() && namespace === ownNamespace
}

function lives(owner: Owner): boolean {
  if (!isVisible(owner)) return true
  const { pid, start } = owner
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  const now = startOf(pid)
  return now === '' || start === '' || now === start
}

/**
 * When a process started, as a text that no later process of its number has; '' where the system does not say, or /proc
 * shows the processes of another namespace.
 */
function startOf(pid: number): string {
  try {
    if (readlinkSync('/proc/self') !== String(process.pid)) return ''
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // behind the name, which may hold spaces
    return 'ZX'.includes(state) ? 'ended' : `${boot} ${fields[18]}` // field 22 of proc(5), starttime
  } catch {
    return ''
  }
}

/** Removes a folder that was created for a run and stayed empty. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder)
  } catch {
    // A run is in it.
  }
}
