/**
 * The one asynchronous entrance: loads a backend and makes it the default for new tensors. Before it, and where it
 * falls back, that is `cpu`.
 */

import type { Backend } from './backend.ts'
import { cpu } from './backends/cpu/backend.ts'
import { setDefaultBackend } from './default-backend.ts'

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

/** Loads a backend and makes it the default. Backends are loaded on demand, so what is not asked for costs nothing. */
export async function ready({ backend, threads }: ReadyOptions = {}): Promise<Backend> {
  const chosen = backend === undefined ? await fastest(threads) : await load(backend, threads)
  setDefaultBackend(chosen)
  return chosen
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
