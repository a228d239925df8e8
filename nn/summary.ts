/** The state of a module as a table: one line for each tensor, then the totals. */

import { bytesPerElement, type DType } from '../core/dtype.ts'
import type { Shape } from '../core/index.ts'

/** A tensor of a module, in a summary. */
export interface SummaryRow {
  readonly name: string
  readonly shape: Shape
  readonly dtype: DType
  readonly size: number
  readonly role: 'parameter' | 'frozen' | 'buffer'
}

/** The rows as aligned text: name, shape, number of parameters and bytes of each tensor, and their sums. */
export function summaryText(title: string, rows: readonly SummaryRow[]): string {
  const total = { parameters: 0, trainable: 0, bytes: 0 }
  const lines = rows.map(({ name, shape, dtype, size, role }) => {
    const bytes = size * bytesPerElement[dtype]
    const parameters = role === 'buffer' ? 0 : size
    total.parameters += parameters
    total.trainable += role === 'parameter' ? size : 0
    total.bytes += bytes
    return [
      name,
      `${dtype} [${shape.join(', ')}]`,
      grouped(parameters),
      grouped(bytes),
      role === 'parameter' ? '' : role,
    ]
  })
  const head = ['name', 'shape', 'parameters', 'bytes', '']
  const foot = ['total', '', grouped(total.parameters), grouped(total.bytes), `${grouped(total.trainable)} trainable`]
  return [title, ...aligned([head, ...lines, foot])].join('\n')
}

/** Rows of cells as lines: text to the left, numbers (columns 2 and 3) to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, i) => rows.reduce((most, row) => Math.max(most, row[i].length), 0))
  return rows.map(row =>
    row
      .map((cell, i) => (i === 2 || i === 3 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd(),
  )
}

function grouped(n: number): string {
  return n.toLocaleString('en')
}
