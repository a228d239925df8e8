/** Access to the worker (host.ts): one for the whole site, started when a playground is opened. */

import { type Remote, wrap } from 'comlink'
import type { Studio } from './studio.ts'

let studio: Remote<Studio> | null = null

export function openStudio(): Remote<Studio> {
  studio ??= start()
  return studio
}

/** Comlink waits for an answer for ever: where the worker is not to be had or dies, calls are rejected here. */
function start(): Remote<Studio> {
  const worker = new Worker(new URL('./host.ts', import.meta.url), { type: 'module' })
  const remote = wrap<Studio>(worker)
  const waiting = new Set<(reason: Error) => void>()
  let failure: Error | null = null
  worker.onerror = ({ message }) => {
    // A script that cannot be loaded has no message.
    const what = message ? `failed: ${message}` : 'could not be loaded'
    failure = new Error(`The worker that computes for this page ${what}. Load the page anew to try again.`)
    studio = null
    worker.terminate()
    for (const reject of waiting) reject(failure)
  }
  const call = (name: keyof Studio, operands: never[]) =>
    new Promise((resolve, reject) => {
      if (failure !== null) return reject(failure)
      waiting.add(reject)
      const method = remote[name] as (...operands: never[]) => Promise<unknown>
      method(...operands)
        .then(resolve, reject)
        .finally(() => waiting.delete(reject))
    })
  return new Proxy(remote, {
    get:
      (_, name) =>
      (...operands: never[]) =>
        call(name as keyof Studio, operands),
  })
}
