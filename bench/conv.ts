/**
 * Convolutions of an autoencoder, forward and forward + backward, beside a plain product of 512³ in the same run: GFLOP/s,
 * and what share that is of the product's. One thread, in processor time, so that a busy machine disturbs little.
 * Run: npm run bench -- conv.
 */

import process from 'node:process'
import { type Backend, backward, conv2d, matmul, noGrad, rng, scope } from '../core/index.ts'
import { table } from './table.ts'

/** Channels in and out, height and width, pictures, kernel and stride. */
type Convolution = readonly [C: number, O: number, H: number, N: number, k: number, stride: number]

/** Of Stable Diffusion's autoencoder, and of small ones. */
const convolutions: readonly Convolution[] = [
  [512, 512, 32, 1, 3, 1],
  [512, 512, 64, 1, 3, 1],
  [256, 256, 64, 1, 3, 1],
  [128, 128, 64, 1, 3, 1],
  [128, 128, 128, 1, 3, 1],
  [512, 512, 32, 1, 1, 1],
  [128, 128, 65, 1, 3, 2],
  [3, 128, 64, 1, 3, 1],
  [128, 3, 64, 1, 3, 1],
  [64, 64, 8, 8, 3, 1],
  [32, 32, 16, 4, 3, 1],
]

/** Least rate of a convolution with 32 channels or more, as a share of the rate of a product. */
const wanted = 0.5

/** Processor milliseconds of the fastest of some calls, after one that is not counted. */
function processorTime(run: () => void): number {
  run()
  let best = Infinity
  for (let i = 0; i < 4; i++) {
    const before = process.cpuUsage()
    run()
    const { user, system } = process.cpuUsage(before)
    best = Math.min(best, (user + system) / 1000)
  }
  return best
}

export function conv(backend: Backend): void {
  const random = rng(1)
  const square = random.normal([512, 512], { backend })
  const product = (2 * 512 ** 3) / processorTime(() => scope(() => void matmul(square, square))) / 1e6
  const rows = [['', 'forward ms', '', 'of matmul', 'with backward ms', '', 'of matmul']]
  for (const [C, O, H, N, k, stride] of convolutions) {
    const options = { stride, padding: stride === 1 ? (k - 1) / 2 : 0 }
    const x = random.normal([N, C, H, H], { backend }).requireGrad()
    const w = random.normal([O, C, k, k], { backend }).requireGrad()
    const forward = processorTime(() => noGrad(() => scope(() => void conv2d(x, w, null, options))))
    const both = processorTime(() => {
      scope(() => {
        const y = conv2d(x, w, null, options)
        backward(y, y.detach())
      })
      for (const leaf of [x, w]) {
        leaf.grad!.dispose()
        leaf.grad = null
      }
    })
    const outH = Math.floor((H + 2 * options.padding - k) / stride) + 1
    const flops = 2 * N * C * O * k * k * outH * outH
    const cells = [flops / forward / 1e6, (3 * flops) / both / 1e6].map(rate => [
      `${rate.toFixed(1)} GFLOP/s`,
      `${((100 * rate) / product).toFixed(0)} %`,
    ])
    rows.push([
      `${C} → ${O}, ${k}×${k}${stride > 1 ? ` / ${stride}` : ''}, ${N} × ${H}²`,
      forward.toFixed(2),
      ...cells[0],
      both.toFixed(2),
      ...cells[1],
    ])
    if (Math.min(C, O) >= 32 && Math.min(flops / forward, (3 * flops) / both) / 1e6 < wanted * product)
      process.exitCode = 1
    for (const tensor of [x, w]) tensor.dispose()
  }
  square.dispose()
  console.log(`matmul 512³: ${product.toFixed(1)} GFLOP/s\n\n${table(rows)}`)
  console.log(`\nwanted of those with 32 channels or more: ${100 * wanted} % of the product`)
}
