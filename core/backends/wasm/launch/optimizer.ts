/**
 * Launches what an optimizer step does: the squared norm and updates of many tensors at once. All tensors are cut into
 * pieces of one size, and a table in memory has a line per piece, whose words are those of the line classes of
 * kernels/optimizer.as.ts.
 */

import type { FusedKernels, Kernels, Operand, UpdateKernels } from '../../../backend.ts'
import { ceilDiv } from '../../../shape.ts'
import { type Address, addBytes } from '../memory.ts'
import { addressOf, CHUNK, type LaunchContext } from '../storage.ts'

/** The words of a line. */
type Line = readonly number[]

/**
 * A line for each piece of each row: the addresses of the tensors there and of `scalar`, each 0 if absent, and the length
 * as `count` gives it from elements.
 */
function linesOf(
  rows: readonly { readonly tensors: readonly (Operand | undefined)[]; readonly scalar?: Operand | null }[],
  count: (elements: number) => number,
): Line[] {
  return rows.flatMap(({ tensors, scalar }) => {
    const n = tensors[0]!.storage.length
    const last = scalar === undefined ? [] : [addressOf(scalar) ?? 0]
    return Array.from({ length: ceilDiv(n, CHUNK) }, (_, i) => [
      ...tensors.map(x => (x === undefined ? 0 : addressOf(x) + 4 * i * CHUNK)),
      ...last,
      count(Math.min(CHUNK, n - i * CHUNK)),
    ])
  })
}

const inFloats = (elements: number): number => elements
const inVectors = (elements: number): number => (elements + 3) >> 2

export function optimizer(
  context: LaunchContext,
): Pick<Kernels, 'assign'> & Pick<FusedKernels, 'sumOfSquares'> & UpdateKernels {
  const { runtime } = context
  const { kernels } = runtime

  /** Runs `use` with a table of `lines` in memory, and `extra` bytes behind it, 8-byte aligned. */
  function withTable(lines: readonly Line[], extra: number, use: (table: Address, after: Address) => void) {
    const words = lines.length === 0 ? 0 : lines.length * lines[0].length
    const bytes = 8 * ceilDiv(words, 2)
    context.scratch(bytes + extra, table => {
      const target = runtime.ints(table, words)
      let i = 0
      for (const line of lines) for (const word of line) target[i++] = word
      use(table, addBytes(table, bytes))
    })
  }

  return {
    sumOfSquares(xs, out) {
      const y = context.output(out)
      const lines = linesOf(
        xs.map(x => ({ tensors: [x] })),
        inFloats,
      )
      withTable(lines, 8 * lines.length, (table, slots) => {
        runtime.launch(kernels.squares, lines.length, { table, slots })
        runtime.launch(kernels.sumSlots, 1, { slots, n: lines.length, out: y.address })
      })
      return y
    },

    assign(rows, _, { finite }) {
      const lines = linesOf(
        rows.map(({ target, source }) => ({ tensors: [target, source] })),
        inVectors,
      )
      withTable(lines, 0, table => runtime.launch(kernels.assign, lines.length, { table, finite: addressOf(finite) }))
    },

    lerp(rows, { weight }, { finite }) {
      const lines = linesOf(
        rows.map(({ target, source }) => ({ tensors: [target, source] })),
        inVectors,
      )
      withTable(lines, 0, table =>
        runtime.launch(kernels.lerp, lines.length, { table, finite: addressOf(finite), weight }),
      )
    },

    adamW(rows, { lr, betas: [beta1, beta2], eps, weightDecay, maximize }, { clip, correction1, correction2, finite }) {
      const lines = linesOf(
        rows.map(({ p, g, m, v, vmax }) => ({ tensors: [p, g, m, v, vmax] })),
        inVectors,
      )
      withTable(lines, 0, table =>
        runtime.launch(kernels.adamW, lines.length, {
          table,
          finite: addressOf(finite),
          clip: addressOf(clip),
          correction1: addressOf(correction1),
          correction2: addressOf(correction2),
          lr,
          beta1,
          rest1: 1 - beta1,
          beta2,
          rest2: 1 - beta2,
          eps,
          keep: 1 - lr * weightDecay,
          sign: maximize ? -1 : 1,
        }),
      )
    },

    adan(
      rows,
      { lr, betas: [beta1, beta2, beta3], eps, weightDecay, decay },
      { clip, correction1, correction2, correction3, finite },
    ) {
      const lines = linesOf(
        rows.map(({ p, g, m, d, v, before, started }) => ({ tensors: [p, g, m, d, v, before], scalar: started })),
        inVectors,
      )
      const shrink = lr * weightDecay
      withTable(lines, 0, table =>
        runtime.launch(kernels.adan, lines.length, {
          table,
          finite: addressOf(finite),
          clip: addressOf(clip),
          correction1: addressOf(correction1),
          correction2: addressOf(correction2),
          correction3: addressOf(correction3),
          lr,
          beta1,
          rest1: 1 - beta1,
          beta2,
          rest2: 1 - beta2,
          beta3,
          rest3: 1 - beta3,
          eps,
          keep: decay === 'before' ? 1 - shrink : 1,
          shrink: decay === 'before' ? 1 : 1 / (1 + shrink),
        }),
      )
    },

    sgd(rows, { lr, momentum, dampening, nesterov, weightDecay, maximize }, { clip, finite }) {
      const lines = linesOf(
        rows.map(({ p, g, b, started = null }) => ({ tensors: [p, g, b], scalar: started })),
        inVectors,
      )
      withTable(lines, 0, table =>
        runtime.launch(kernels.sgd, lines.length, {
          table,
          finite: addressOf(finite),
          clip: addressOf(clip),
          lr,
          momentum,
          rest: 1 - dampening,
          decay: weightDecay,
          sign: maximize ? -1 : 1,
          nesterov,
        }),
      )
    },
  }
}
