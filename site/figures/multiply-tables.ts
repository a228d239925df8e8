/** Tables of the chapters on a multiplication and on the tape. */

import { tapeExample } from './multiply.ts'

const signed = (value: number) => String(value).replace('-', '−')

function walkTable(): string {
  const at = tapeExample()
  const rows: readonly (readonly [string, string, string, string])[] = [
    ['4', 'L = e²', '2e · ∂L', `∂L/∂e = 2 · ${at.e.value} · 1 = ${signed(at.e.gradient)}`],
    ['3', 'e = s − y', '∂L, −∂L', `∂L/∂s = ${signed(at.s.gradient)}, ∂L/∂y = ${signed(at.y.gradient)}`],
    ['2', 's = p + b', '∂L, ∂L', `∂L/∂p = ${signed(at.product.gradient)}, ∂L/∂b = ${signed(at.b.gradient)}`],
    [
      '1',
      'p = w · x',
      'x · ∂L, w · ∂L',
      `∂L/∂w = ${at.x.value} · ${at.product.gradient} = ${signed(at.w.gradient)}, ∂L/∂x = ${at.w.value} · ${at.product.gradient} = ${signed(at.x.gradient)}`,
    ],
  ]
  const lines = rows.map(row => `| ${row.join(' | ')} |`)
  return ['| node | computed | its rule, by inputs | gives |', '|--:|---|---|---|', ...lines].join('\n')
}

/** Tables of the two chapters. */
export const multiplyTables = { 'tape-walk': walkTable }
