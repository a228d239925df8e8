/**
 * The parent's side of the talk with a peer: one process, asked one thing at a time, that is ended when it takes too long.
 * A question is a line of JSON, an answer one that begins with @@; whatever else a library prints is passed over.
 * Answers that are text say what went wrong. Needs Node. The child's side: peers/serve.ts.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { WorkName } from './peers/problem.ts'

/** Milliseconds that one answer may take. */
const patience = 180_000

export interface Hello {
  readonly version: string
  readonly works: readonly WorkName[]
  readonly without: Partial<Record<WorkName, string>>
}

export interface Times {
  readonly times: readonly number[]
  readonly losses: readonly number[]
  readonly resident: number
}

export class PeerProcess {
  readonly #child: ChildProcess
  #works: readonly WorkName[] = []
  #answer: ((line: string | null) => void) | null = null
  #errors = ''
  #ended = false

  /** Runs a script of peers/: TypeScript by the loader that runs this file, Python by DEMASK_PYTHON or python3. */
  constructor(script: string, args: readonly string[]) {
    const path = fileURLToPath(new URL(`peers/${script}`, import.meta.url))
    const [program, before] = script.endsWith('.py')
      ? [process.env.DEMASK_PYTHON ?? 'python3', []]
      : [process.execPath, process.execArgv]
    this.#child = spawn(program, [...before, path, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
    const ended = () => {
      this.#ended = true
      this.#answer?.(null)
    }
    this.#child.on('error', error => {
      this.#errors = error.message
      ended()
    })
    this.#child.on('close', ended)
    this.#child.stdin!.on('error', ended)
    this.#child.stderr!.on('data', chunk => {
      this.#errors = `${this.#errors}${chunk}`.slice(-4000)
    })
    createInterface({ input: this.#child.stdout! }).on('line', line => {
      if (line.startsWith('@@')) this.#answer?.(line.slice(2))
    })
  }

  /** Returns the peer's version and works, or the reason why it did not start. */
  async hello(): Promise<Hello | string> {
    const hello = await this.#next<Hello>()
    if (typeof hello !== 'string') this.#works = hello.works
    return hello
  }

  /** True if the peer has a work. */
  does(work: WorkName): boolean {
    return !this.#ended && this.#works.includes(work)
  }

  /** Runs a work once, and gives what is compared. */
  async check(work: WorkName): Promise<readonly number[] | string> {
    const answer = await this.#ask<{ values: readonly number[] }>({ name: work })
    return typeof answer === 'string' ? answer : answer.values
  }

  /** Runs a work for `seconds` seconds, at least once. */
  time(work: WorkName, seconds: number): Promise<Times | string> {
    return this.#ask<Times>({ name: work, seconds })
  }

  end(): void {
    this.#child.kill('SIGKILL')
  }

  #ask<A>(question: { readonly name: WorkName; readonly seconds?: number }): Promise<A | string> {
    const next = this.#next<A>()
    this.#child.stdin!.write(`${JSON.stringify(question)}\n`)
    return next
  }

  async #next<A>(): Promise<A | string> {
    if (this.#ended) return this.#reason()
    let timer: NodeJS.Timeout | undefined
    const line = await new Promise<string | null>(resolve => {
      this.#answer = resolve
      timer = setTimeout(() => {
        this.#errors = `no answer within ${patience / 1000} s`
        this.end()
      }, patience)
    })
    clearTimeout(timer)
    this.#answer = null
    if (line === null) return this.#reason()
    const answer: A & { readonly error?: string } = JSON.parse(line)
    return answer.error ?? answer
  }

  /** The line of its errors that says most. */
  #reason(): string {
    const lines = this.#errors.trim().split('\n')
    return lines.findLast(line => /error|no answer|enoent/i.test(line))?.trim() ?? lines.at(-1) ?? 'it ended'
  }
}
