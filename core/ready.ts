/**
 * The one asynchronous entrance: loads a backend and makes it the default for new tensors. Before it, and where it
 * falls back, that is `cpu`.
 */

import { aCount, checkOptions, oneOf } from './arguments.ts'
import type { Backend } from './backend.ts'
import { cpu } from './backends/cpu/backend.ts'
import { setDefaultBackend } from './default-backend.ts'
import { showTensorsInDevtools } from './devtools.ts'
import { atCaller } from './traceback.ts'

/** `gpu` takes the best device there is; with a colon, that one. */
export type BackendName = 'cpu' | 'wasm' | 'gpu' | 'gpu:webgpu' | 'gpu:webgl2' | 'gpu:cpu'

/** All of them. */
export const backendNames: readonly BackendName[] = ['cpu', 'wasm', 'gpu', 'gpu:webgpu', 'gpu:webgl2', 'gpu:cpu']

/** Which backend, and how it runs. */
export interface ReadyOptions {
  /**
   * Without a name: wasm, or cpu with one line of warning where wasm SIMD is missing. With a name: that one, or it throws;
   * a gpu says which it is in one line.
   */
  readonly backend?: BackendName
  /** Threads of the wasm backend, the main one included. Default: DEMASK_THREADS, or one per core. */
  readonly threads?: number
}

/** The backend of the first call, and the options it was called with. */
let opened: { readonly options: string; readonly backend: Promise<Backend> } | null = null

/**
 * Loads a backend and makes it the default. Backends are loaded on demand, so what is not asked for costs nothing. Another
 * call with the same options returns the same backend until it is disposed of. Throws on other options. In a page,
 * developer tools show tensors from now on.
 */
export async function ready(options: ReadyOptions = {}): Promise<Backend> {
  checkOptions('ready', options, { backend: oneOf(backendNames), threads: aCount })
  const wanted = show(options)
  const before = opened
  const first = before === null ? null : await before.backend.catch(() => null)
  if (opened !== before) return ready(options) // another call opened a backend in the meantime
  if (before !== null && first !== null && !first.disposed) {
    if (before.options !== wanted)
      throw atCaller(new Error(`ready: expected the options of the first call, ${before.options}, got ${wanted}`))
    setDefaultBackend(first)
    return first
  }
  const { backend, threads } = options
  opened = { options: wanted, backend: backend === undefined ? fastest(threads) : load(backend, threads) }
  const chosen = await opened.backend
  setDefaultBackend(chosen)
  if ('document' in globalThis) showTensorsInDevtools()
  return chosen
}

function show({ backend, threads }: ReadyOptions): string {
  return `{ backend: ${backend ?? 'any'}, threads: ${threads ?? 'any'} }`
}

async function load(name: BackendName, threads: number | undefined): Promise<Backend> {
  if (name === 'wasm') return (await import('./backends/wasm/index.ts')).createWasm({ threads })
  if (name === 'cpu') return cpu
  const { deviceModes, gpu } = await import('./backends/gpu/index.ts')
  const backend = await gpu({ device: deviceModes.find(mode => name === `gpu:${mode}`) })
  console.info(backend.device.about)
  return backend
}

async function fastest(threads: number | undefined): Promise<Backend> {
  try {
    return await load('wasm', threads)
  } catch (error) {
    console.warn(`${error instanceof Error ? error.message : error}; going on with the slower backend 'cpu'`)
    return cpu
  }
}
