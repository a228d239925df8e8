/** State shared by the components that compute: the worker, its backend, the pictures, and an error to show in place. */

import { withBase } from 'vitepress'
import { onMounted, ref, shallowRef } from 'vue'
import type { Machine } from '../playground/studio.ts'
import { openStudio } from '../playground/worker.ts'

export interface Smileys {
  readonly classes: readonly string[]
  readonly labels: readonly number[]
  readonly size: number
  readonly pictures: Uint8Array
}

export function usePlayground(ready: () => void | Promise<void> = () => {}) {
  const studio = openStudio()
  const machine = shallowRef<Machine | null>(null)
  const smileys = shallowRef<Smileys | null>(null)
  const error = ref('')

  /** Runs what may fail, and shows why it did. */
  async function attempt(work: () => unknown): Promise<void> {
    try {
      error.value = ''
      await work()
    } catch (reason) {
      error.value = reason instanceof Error ? reason.message : String(reason)
    }
  }

  onMounted(() =>
    attempt(async () => {
      machine.value = await studio.open(withBase('/'))
      smileys.value = await studio.smileys()
      await ready()
    }),
  )
  /** Starts over on another backend. */
  const reopen = (backend: 'wasm' | 'gpu') =>
    attempt(async () => {
      machine.value = null
      machine.value = await studio.open(withBase('/'), backend)
    })

  return { studio, machine, smileys, error, attempt, reopen }
}

/** Picture `i` of the set as RGBA bytes. */
export function rgbaOf({ size, pictures }: Pick<Smileys, 'size' | 'pictures'>, i: number): Uint8ClampedArray {
  const area = size * size
  const rgba = new Uint8ClampedArray(4 * area).fill(255)
  for (let c = 0; c < 3; c++) for (let k = 0; k < area; k++) rgba[4 * k + c] = pictures[(3 * i + c) * area + k]
  return rgba
}

/** Calls of `work` while one is running become one call after it: for sliders. */
export function latest(work: () => Promise<void>): () => void {
  let [running, again] = [false, false]
  const run = async () => {
    if (running) {
      again = true
      return
    }
    running = true
    do {
      again = false
      await work()
    } while (again)
    running = false
  }
  return () => void run()
}
