/** Figures of the chapter on layers: adaLN-Zero drawn forwards and backwards, its numbers, and gates of a trained model. */

import { scope } from '../../core/index.ts'
import { polyline } from '../../training/plot.ts'
import { type AdalnName, byTape, chapterInputs } from '../playground/adaln.ts'
import { short } from './adaln.ts'
import {
  arrow,
  blue,
  box,
  figure,
  gold,
  green,
  grey,
  legend,
  orange,
  type Point,
  plots,
  purple,
  rect,
  red,
  text,
} from './svg.ts'
import { trained } from './trained.ts'

const [forward, back] = [blue, red]

/** The branch of a block: main road on the left, modulation on the right; arrows of values, or of gradients. */
function branch(backwards: boolean): string {
  const [W, H, main, side] = [480, 470, 170, 390]
  const colour = backwards ? back : forward
  const go = (points: readonly Point[], style = {}) =>
    arrow(backwards ? [...points].reverse() : points, { colour, ...style })
  const stages: readonly (readonly [number, readonly string[]])[] = [
    [110, ['LN']],
    [190, ['⊙ (1 + γ), + β']],
    [270, ['F: attention or MLP']],
    [350, ['⊙ α']],
  ]
  const values = backwards
    ? ['∂L/∂x', 'k = ∂L/∂x̂', 'h = ∂L/∂y', '∂L/∂u = α ⊙ g', '', 'g = ∂L/∂o']
    : ['x (N, T, D)', 'x̂ (N, T, D)', 'y (N, T, D)', 'u (N, T, D)', '', 'o (N, T, D)']
  const parts = stages.map(([y, lines]) => box([main, y], [170, 36], lines, grey))
  const label = (y: number, content: string) => text([main + 8, y], content, { anchor: 'start', colour, size: 13 })
  parts.push(
    go([
      [main, 30],
      [main, 92],
    ]),
    label(48, values[0]),
    go([
      [main, 128],
      [main, 172],
    ]),
    label(155, values[1]),
    go([
      [main, 208],
      [main, 252],
    ]),
    label(235, values[2]),
    go([
      [main, 288],
      [main, 332],
    ]),
    label(315, values[3]),
    go([
      [main, 368],
      [main, 400],
    ]),
    box([main, 412], [26, 24], ['+'], grey, 15),
    go([
      [main, 424],
      [main, 462],
    ]),
    label(450, values[5]),
    go(
      [
        [main, 64],
        [40, 64],
        [40, 412],
        [main - 14, 412],
      ],
      { dashed: true },
    ),
    text([48, 240], backwards ? 'g, unchanged' : 'x, unchanged', { anchor: 'start', colour, size: 12 }),
  )
  const condition = backwards ? ['∂L/∂c'] : ['c (N, D)']
  parts.push(
    text([side, 34], condition[0], { colour }),
    go([
      [side, 40],
      [side, 92],
    ]),
    box([side, 110], [120, 36], ['SiLU, linear'], purple),
    go([
      [side, 128],
      [side, 190],
      [main + 87, 190],
    ]),
    go([
      [side, 190],
      [side, 350],
      [main + 87, 350],
    ]),
  )
  const own = backwards
    ? [
        ['∂L/∂γ = Σₜ h ⊙ x̂', 166],
        ['∂L/∂β = Σₜ h', 183],
        ['∂L/∂α = Σₜ g ⊙ u', 342],
      ]
    : [
        ['γ, β (N, D)', 183],
        ['α (N, D)', 342],
      ]
  for (const [content, y] of own)
    parts.push(text([side - 8, Number(y)], String(content), { anchor: 'end', colour: purple, size: 12 }))
  return figure([W, H], `adaLN-Zero, ${backwards ? 'gradients' : 'values'}`, parts)
}

/** A grid of numbers, rows of three, each cell shaded by its size. */
function cells([x, y]: Point, values: readonly number[], colour: string): string[] {
  const [w, h] = [44, 24]
  return values.map((value, i) => {
    const at: Point = [x + (i % 3) * w, y + Math.floor(i / 3) * h]
    const shade = Math.min(0.3, 0.06 + 0.05 * Math.abs(value))
    const inside = rect(at, [w, h], { fill: value === 0 ? grey : colour, opacity: shade, colour: grey, width: 0.6 })
    return inside + text([at[0] + w / 2, at[1] + 16.5], short(value), { size: 12.5 })
  })
}

/** Values on the left from top to bottom, gradients on the right from bottom to top. */
function numbersFigure(): string {
  const { values, gradients, loss } = byTape(chapterInputs)
  const rows: readonly (readonly [string, AdalnName, string])[] = [
    ['x', 'x', '∂L/∂x'],
    ['x̂ = LN(x)', 'normed', '∂L/∂x̂'],
    ['y = (1 + γ) ⊙ x̂ + β', 'y', '∂L/∂y'],
    ['u = y²', 'u', '∂L/∂u'],
    ['o = x + α ⊙ u', 'o', '∂L/∂o'],
  ]
  const parts: string[] = [
    text([82, 18], 'values', { colour: forward, bold: true }),
    text([262, 18], 'gradients', { colour: back, bold: true }),
    text([414, 18], 'sums over tokens', { colour: purple, bold: true, size: 12 }),
  ]
  rows.forEach(([title, name, gradient], i) => {
    const y = 46 + 84 * i
    parts.push(
      text([16, y - 6], title, { anchor: 'start', colour: forward, size: 12 }),
      ...cells([16, y], values[name], forward),
      text([196, y - 6], gradient, { anchor: 'start', colour: back, size: 12 }),
      ...cells([196, y], gradients[name], back),
    )
    if (i < 4) {
      parts.push(
        arrow(
          [
            [152, y + 30],
            [152, y + 76],
          ],
          { colour: forward },
        ),
      )
      parts.push(
        arrow(
          [
            [332, y + 76],
            [332, y + 30],
          ],
          { colour: back },
        ),
      )
    }
  })
  const sums = [
    ['∂L/∂γ', 'gamma', 2],
    ['∂L/∂β', 'beta', 2.5],
    ['∂L/∂α', 'alpha', 4],
  ] as const
  for (const [title, name, place] of sums) {
    const y = 52 + 84 * place - (place === 2 ? 6 : -6)
    parts.push(text([348, y - 6], title, { anchor: 'start', colour: purple, size: 12 }))
    parts.push(...cells([344, y], gradients[name], purple))
  }
  parts.push(text([200, 456], `L = ½ Σ o² = ${loss.toFixed(2)}`, { size: 13 }))
  const given = (['gamma', 'beta', 'alpha'] as const).map(name => chapterInputs[name].map(short).join(', '))
  parts.push(text([200, 476], `γ = (${given[0]}), β = (${given[1]}), α = (${given[2]})`, { size: 12 }))
  return figure([480, 486], 'adaLN-Zero on two tokens: values and gradients', parts)
}

/** Mean size of both gates of every block of the trained model, over timesteps. */
async function gates(): Promise<string> {
  const { model } = await trained()
  const steps = Array.from({ length: 21 }, (_, i) => Math.min(999, 50 * i))
  const sizes = scope(() => {
    const c = model.condition(steps.length, steps, null)
    return [...model.blocks].map(block => {
      const vectors = block.adaLN_modulation.vectors(c)
      return [2, 5].map(part => {
        const values = Array.from(vectors[part].dataSync())
        const D = values.length / steps.length
        return steps.map((_, n) => values.slice(n * D, (n + 1) * D).reduce((s, v) => s + Math.abs(v), 0) / D)
      })
    })
  })
  const colours = [blue, orange, green, purple, red, gold]
  const top = 1.15 * Math.max(...sizes.flat(2))
  return plots(
    ['attention', 'MLP'].map((title, part) => ({
      width: 400,
      height: 150,
      title: `gates of ${title}`,
      x: { domain: [0, 1000] as const, title: part === 1 ? 'timestep t' : undefined },
      y: { domain: [0, top] as const, title: 'mean |α|' },
      marks: (x, y) =>
        [
          ...sizes.map((block, i) =>
            polyline(
              steps.map((t, n) => [x(t), y(block[part][n])] as const),
              { colour: colours[i], width: 2 },
            ),
          ),
          part === 0
            ? legend(
                sizes.map((_, i) => `block ${i}`),
                colours,
                [310, 12],
              )
            : '',
        ].join('\n'),
    })),
    1,
    'Mean size of the gates of a trained model over timesteps',
  )
}

/** Offsets of a grid of 3 × 3 tokens: each pair of equal offset shares a number of the bias table. */
function offsets(): string {
  const [side, left, top] = [40, 30, 40]
  const parts: string[] = []
  for (const [g, [from, to]] of (
    [
      [
        [1, 1],
        [1, 0],
      ],
      [
        [2, 2],
        [2, 1],
      ],
      [
        [0, 2],
        [2, 0],
      ],
    ] as const
  ).entries()) {
    const x0 = left + g * 150
    for (let r = 0; r < 3; r++)
      for (let c = 0; c < 3; c++) parts.push(rect([x0 + c * side, top + r * side], [side, side], { width: 0.8 }))
    const centre = ([r, c]: readonly [number, number]): Point => [x0 + (c + 0.5) * side, top + (r + 0.5) * side]
    const colour = g < 2 ? blue : orange
    parts.push(rect([centre(from)[0] - 16, centre(from)[1] - 16], [32, 32], { fill: colour, colour, rounded: 4 }))
    parts.push(arrow([centre(from), centre(to)], { colour, width: 2 }))
    const offset = [from[0] - to[0], from[1] - to[1]].map(short).join(', ')
    parts.push(text([x0 + 1.5 * side, top + 3 * side + 22], `offset (${offset})`, { colour }))
  }
  parts.push(text([230, 22], 'equal offsets share one learned number per head'))
  return figure([460, 200], 'Relative positions on a grid of tokens', parts)
}

/** Figures of the chapter. */
export const layers = {
  'adaln-forward': () => branch(false),
  'adaln-backward': () => branch(true),
  'adaln-numbers': numbersFigure,
  'adaln-gates': gates,
  'relative-offsets': offsets,
}
