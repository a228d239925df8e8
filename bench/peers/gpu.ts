/** gpu.js: a kernel of its own for the product and for gelu, as plain JavaScript: the processor is what is compared. */

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { digest, type Problem } from './problem.ts'
import { serve, type Work } from './serve.ts'

type Kernel = (...args: unknown[]) => ArrayLike<number> | Float32Array[]
interface Gpu {
  createKernel(source: (this: never, ...args: never[]) => number, settings: object): Kernel
}

const { GPU } = createRequire(import.meta.url)('gpu.js') as {
  GPU: new (options?: object) => Gpu
}
const gpu = new GPU({ mode: 'cpu' })

const flat = (y: ArrayLike<number> | Float32Array[]): number[] =>
  Array.from(y as ArrayLike<number>[]).flatMap(row => (typeof row === 'number' ? [row] : Array.from(row)))
const work = (run: () => ArrayLike<number> | Float32Array[]): Work => ({
  run: () => void run() as undefined,
  check: () => digest(flat(run())),
})

/** Rows of 512, as the kernel indexes them. */
function matrix(problem: Problem, name: string): Float32Array[] {
  const values = problem.values(name)
  return Array.from({ length: 512 }, (_, i) => values.subarray(512 * i, 512 * (i + 1)))
}

interface Thread {
  thread: { readonly x: number; readonly y: number }
}

function matmul(problem: Problem): Work {
  const kernel = gpu.createKernel(
    function (this: Thread, a: number[][], b: number[][]) {
      let sum = 0
      for (let k = 0; k < 512; k++) sum += a[this.thread.y][k] * b[k][this.thread.x]
      return sum
    } as never,
    { output: [512, 512] },
  )
  const [a, b] = [matrix(problem, 'a'), matrix(problem, 'b')]
  return work(() => kernel(a, b))
}

function gelu(problem: Problem): Work {
  const kernel = gpu.createKernel(
    function (this: Thread, x: number[]) {
      const v = x[this.thread.x]
      return 0.5 * v * (1 + Math.tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)))
    } as never,
    { output: [2 ** 22] },
  )
  const x = problem.values('wide')
  return work(() => kernel(x))
}

const manifest = new URL('node_modules/gpu.js/package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(manifest, 'utf8'))
const kernels = 'gpu.js runs kernels that one writes: the product and gelu stand for it'

await serve(
  `gpu.js ${version} (cpu mode)`,
  { matmul, gelu },
  { layerNorm: kernels, softmax: kernels, block: kernels, step: kernels, forward: kernels },
)
