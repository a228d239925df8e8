/**
 * Upper bounds of the savings of two fusions that were not built, as shares of a DiT block (width 384, 8×64 tokens) forward and
 * backward, in processor time on one thread. An op `linear + gelu`: the gradient needs what goes into gelu, so the op
 * must still write that, and saves one read forward, one write and one read backward. Packed weights kept from MDT's
 * first pass for its second: half of all packing of weights, which happens once forward and once backward in each pass; it
 * would take as much memory again as the weights, twice. Run: npm run bench -- savings.
 */

import process from 'node:process'
import { type Backend, backward, full, geluTanh, linear, neg, rng, scope } from '../core/index.ts'
import { DiTBlock } from '../models/index.ts'
import { table } from './table.ts'

/** Processor milliseconds of a call: the least of some runs of `calls` calls. */
function processorTime(calls: number, run: () => void): number {
  scope(() => void run())
  const runs = Array.from({ length: 10 }, () => {
    const before = process.cpuUsage()
    for (let i = 0; i < calls; i++) scope(() => void run())
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000 / calls
  })
  return Math.min(...runs)
}

export function savings(backend: Backend): void {
  const random = rng(1)
  const block = new DiTBlock({ hiddenSize: 384, numHeads: 6 }, { rng: random, backend })
  const [tokens, condition] = [random.normal([8, 64, 384]).requireGrad(), random.normal([8, 384]).requireGrad()]
  const hidden = random.normal([8, 64, 4 * 384])
  const leaves = [...block.parameters(), tokens, condition]

  const whole = processorTime(4, () => {
    const y = block.forward(tokens, condition)
    backward(y, y.detach())
    for (const leaf of leaves) {
      leaf.grad!.dispose()
      leaf.grad = null
    }
  })
  const gelu = processorTime(50, () => void geluTanh(hidden))
  const both = processorTime(50, () => void neg(hidden))
  const write = processorTime(50, () => void full(hidden.shape, 1))
  // Forward one read; backward one write and one read.
  const bound = Math.max(both - write, 0) + both

  // Of 16 rows and of 32: what does not grow with them is packing.
  const weight = random.normal([2304, 384])
  const rows = [16, 32].map(n => {
    const x = random.normal([n, 384])
    const ms = processorTime(50, () => void linear(x, weight))
    x.dispose()
    return ms
  })
  // The block's weights: qkv, projection, both layers of the MLP, modulation: (3 + 1 + 4 + 4 + 6) 384², in units of 6·384².
  const packing = Math.max(2 * rows[0] - rows[1], 0) * 3
  // A pass packs them twice, forward and backward; of two passes the second would be spared: once per pass.
  const share = (ms: number) => [ms.toFixed(3), `${((100 * ms) / whole).toFixed(2)} %`]
  console.log(
    table([
      ['DiT block, 8×64 tokens of 384', 'ms of processor', 'of the block'],
      ['block, forward + backward', ...share(whole)],
      ['gelu of its hidden layer, forward', ...share(gelu)],
      ['a pass that reads and writes as much', ...share(both)],
      ['a pass that writes as much', ...share(write)],
      ['what fusing could save, at the most', ...share(bound)],
      ['what keeping packed weights could save', ...share(packing)],
    ]),
  )
  for (const tensor of [tokens, condition, hidden, weight]) tensor.dispose()
  block.dispose()
}
