/**
 * Times and tables for the benchmarks.
 */

/** The middle value; of two middle ones, their mean. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

/** Milliseconds of `repeats` calls, after one that is not counted. */
export function times(repeats: number, run: () => void): number[] {
  run()
  return Array.from({ length: repeats }, () => {
    const start = performance.now()
    run()
    return performance.now() - start
  })
}

/** Columns of text; the first one on the left, the others on the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => row[i].length)))
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ')
  return rows.map(line).join('\n')
}
