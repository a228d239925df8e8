/**
 * Launches what an optimizer step does: squared norm, AdamW and moving averages over many tensors at once. All tensors
 * are cut in pieces of one size; a table in memory has a line per piece. Kernels: kernels/optimizer.as.ts.
 */

import type { FusedKernels, Operand } from '../../../backend.ts'
import { ceilDiv } from '../../../shape.ts'
import { bits } from '../runtime.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'

/** Pieces of tensors that are updated together: the address of each operand, and elements. */
function pieces(tensors: readonly (readonly Operand[])[]): { readonly addresses: number[]; readonly length: number }[] {
  return tensors.flatMap(operands => {
    const n = operands[0].storage.length
    return Array.from({ length: ceilDiv(n, CHUNK) }, (_, i) => ({
      addresses: operands.map(x => addressOf(x) + 4 * i * CHUNK),
      length: Math.min(CHUNK, n - i * CHUNK),
    }))
  })
}

export function optimizer(context: LaunchContext): Pick<FusedKernels, 'sumOfSquares' | 'adamW' | 'lerp'> {
  const { runtime } = context
  const squaresKernel = runtime.kernel('squares')
  const sumKernel = runtime.kernel('sumSlots')
  const adamKernel = runtime.kernel('adamW')
  const lerpKernel = runtime.kernel('lerp')

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
      const lines = pieces(xs.map(x => [x])).map(({ addresses, length }) => [...addresses, length])
      withTable(lines, 8 * lines.length, (table, slots) => {
        runtime.launchWords(squaresKernel, lines.length, table, slots)
        runtime.launchWords(sumKernel, 1, slots, lines.length, y.address)
      })
      return y
    },

    adamW(tensors, { lr, beta1, beta2, eps, weightDecay }, { clip, correction1, correction2, finite }) {
      const operands = tensors.map(({ p, g, m, v }) => [p, g, m, v])
      const lines = pieces(operands).map(({ addresses, length }) => [...addresses, (length + 3) >> 2])
      const numbers = [lr, beta1, 1 - beta1, beta2, 1 - beta2, eps, 1 - lr * weightDecay].map(bits)
      withTable(lines, 0, table =>
        runtime.launchWords(
          adamKernel,
          lines.length,
          table,
          addressOf(finite),
          addressOf(clip),
          addressOf(correction1),
          addressOf(correction2),
          ...numbers,
        ),
      )
    },

    lerp(targets, sources, weight, finite) {
      const operands = targets.map((target, i) => [target, sources[i]])
      const lines = pieces(operands).map(({ addresses, length }) => [...addresses, (length + 3) >> 2])
      withTable(lines, 0, table =>
        runtime.launchWords(lerpKernel, lines.length, table, addressOf(finite), bits(weight)),
      )
    },
  }
}
