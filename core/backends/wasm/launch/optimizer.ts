/**
 * Launches what an optimizer step does: the squared norm and updates of many tensors at once. All tensors are cut into
 * pieces of one size, and a table in memory has a line per piece. Kernels: kernels/optimizer.as.ts.
 */

import type { FusedKernels, Kernels, Operand, UpdateKernels } from '../../../backend.ts'
import { bits } from '../runtime.ts'
import { at, CHUNK, type Context, ceilDiv } from '../storage.ts'

/** A piece of a row: the addresses of its operands there (0 for an absent one), and elements. */
interface Piece {
  readonly addresses: readonly number[]
  readonly length: number
}

function piecesOf(rows: readonly (readonly (Operand | undefined)[])[]): Piece[] {
  return rows.flatMap(operands => {
    const n = operands[0]!.storage.length
    return Array.from({ length: ceilDiv(n, CHUNK) }, (_, i) => ({
      addresses: operands.map(x => (x === undefined ? 0 : at(x) + 4 * i * CHUNK)),
      length: Math.min(CHUNK, n - i * CHUNK),
    }))
  })
}

const vectors = (length: number): number => (length + 3) >> 2
/** A line of the table of most kernels: addresses, then vectors. */
const inVectors = ({ addresses, length }: Piece): number[] => [...addresses, vectors(length)]

export function optimizer(
  context: Context,
): Pick<Kernels, 'assign'> & Pick<FusedKernels, 'sumOfSquares'> & UpdateKernels {
  const { runtime } = context
  const squaresKernel = runtime.kernel('squares')
  const sumKernel = runtime.kernel('sumSlots')
  const assignKernel = runtime.kernel('assign')
  const lerpKernel = runtime.kernel('lerp')
  const adamKernel = runtime.kernel('adamW')
  const adanKernel = runtime.kernel('adan')
  const sgdKernel = runtime.kernel('sgd')

  /** Runs `use` with a table of `lines` in memory, and `extra` bytes behind it, 8-byte aligned. */
  function withTable(
    lines: readonly (readonly number[])[],
    extra: number,
    use: (table: number, after: number) => void,
  ) {
    const words = lines.length === 0 ? 0 : lines.length * lines[0].length
    const bytes = 8 * ceilDiv(words, 2)
    context.scratch(bytes + extra, table => {
      const target = runtime.ints(table, words)
      let i = 0
      for (const line of lines) for (const word of line) target[i++] = word
      use(table, table + bytes)
    })
  }

  return {
    sumOfSquares(xs, out) {
      const y = context.output(out)
      const lines = piecesOf(xs.map(x => [x])).map(({ addresses, length }) => [...addresses, length])
      withTable(lines, 8 * lines.length, (table, slots) => {
        runtime.launch(squaresKernel, lines.length, table, slots)
        runtime.launch(sumKernel, 1, slots, lines.length, y.address)
      })
      return y
    },

    assign(rows, _, { finite }) {
      const pieces = piecesOf(rows.map(({ target, source }) => [target, source]))
      const lines = pieces.map(({ addresses, length }) => [...addresses, 4 * length])
      withTable(lines, 0, table => runtime.launch(assignKernel, lines.length, table, at(finite)))
    },

    lerp(rows, { weight }, { finite }) {
      const lines = piecesOf(rows.map(({ target, source }) => [target, source])).map(inVectors)
      withTable(lines, 0, table => runtime.launch(lerpKernel, lines.length, table, at(finite), bits(weight)))
    },

    adamW(rows, { lr, betas: [beta1, beta2], eps, weightDecay, maximize }, { clip, correction1, correction2, finite }) {
      const lines = piecesOf(rows.map(({ p, g, m, v, vmax }) => [p, g, m, v, vmax])).map(inVectors)
      const addresses = [finite, clip, correction1, correction2].map(at)
      const sign = maximize ? -1 : 1
      const numbers = [lr, beta1, 1 - beta1, beta2, 1 - beta2, eps, 1 - lr * weightDecay, sign].map(bits)
      withTable(lines, 0, table => runtime.launch(adamKernel, lines.length, table, ...addresses, ...numbers))
    },

    adan(
      rows,
      { lr, betas: [beta1, beta2, beta3], eps, weightDecay, decay },
      { clip, correction1, correction2, correction3, finite },
    ) {
      const lines = rows.flatMap(({ p, g, m, d, v, before, started }) =>
        piecesOf([[p, g, m, d, v, before]]).map(({ addresses, length }) => [
          ...addresses,
          at(started),
          vectors(length),
        ]),
      )
      const addresses = [finite, clip, correction1, correction2, correction3].map(at)
      const shrink = lr * weightDecay
      const [keep, after] = decay === 'before' ? [1 - shrink, 1] : [1, 1 / (1 + shrink)]
      const moments = [beta1, 1 - beta1, beta2, 1 - beta2, beta3, 1 - beta3]
      const numbers = [lr, ...moments, eps, keep, after].map(bits)
      withTable(lines, 0, table => runtime.launch(adanKernel, lines.length, table, ...addresses, ...numbers))
    },

    sgd(rows, { lr, momentum, dampening, nesterov, weightDecay, maximize }, { clip, finite }) {
      const lines = rows.flatMap(({ p, g, b, started }) =>
        piecesOf([[p, g, b]]).map(({ addresses, length }) => [
          ...addresses,
          started === undefined ? 0 : at(started),
          vectors(length),
        ]),
      )
      const addresses = [finite, clip].map(at)
      const numbers = [lr, momentum, 1 - dampening, weightDecay, maximize ? -1 : 1].map(bits)
      withTable(lines, 0, table =>
        runtime.launch(sgdKernel, lines.length, table, ...addresses, ...numbers, Number(nesterov)),
      )
    },
  }
}
