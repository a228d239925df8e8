/**
 * Overhead of an op beyond its arithmetic: a chain of 1,000 mul/add on one-element tensors, forward and backward, beside
 * PyTorch eager's where a Python with torch is found (DEMASK_PYTHON, else python3).
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { add, type Backend, backward, mul, scope, tensor } from '../core/index.ts'

/** One forward and backward, in milliseconds. */
function chain(backend: Backend): number {
  return scope(() => {
    const x = tensor([1], { backend }).requireGrad()
    const [a, b] = [tensor([0.999], { backend }), tensor([0.001], { backend })]
    const start = performance.now()
    scope(() => {
      let y = x
      for (let i = 0; i < 500; i++) y = add(mul(y, a), b)
      backward(y)
    })
    const ms = performance.now() - start
    x.grad!.dispose() // a gradient persists, like the parameter that it usually belongs to
    return ms
  })
}

/** `repeats` times in milliseconds, after a warm-up that lets V8 compile. */
export function chainTimes(backend: Backend, repeats: number): number[] {
  for (let i = 0; i < 50; i++) chain(backend)
  return Array.from({ length: repeats }, () => chain(backend))
}

export interface TorchTimes {
  readonly version: string
  readonly ms: readonly number[]
}

/** The same on PyTorch eager, one thread; or the reason why there is no figure. */
export function torchChainTimes(repeats: number): TorchTimes | string {
  const python = process.env.DEMASK_PYTHON ?? 'python3'
  const script = fileURLToPath(new URL('chain.py', import.meta.url))
  const { status, stdout, stderr, error } = spawnSync(python, [script, String(repeats)], { encoding: 'utf8' })
  if (error !== undefined) return `${python}: ${error.message}`
  if (status !== 0) return `${python}: ${stderr.trim().split('\n').at(-1)}`
  return JSON.parse(stdout)
}
