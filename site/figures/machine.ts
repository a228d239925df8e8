/** Figures of the chapters on op records, on backends and on evidence: checks, tiles, and recorded measurements. Needs Node. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cpu, exp, sin, sum, tensor } from '../../core/index.ts'
import { polyline } from '../../training/plot.ts'
import { root } from '../regions.ts'
import {
  arrow,
  blue,
  box,
  figure,
  gold,
  green,
  grey,
  legend,
  line,
  orange,
  type Point,
  plots,
  purple,
  rect,
  red,
  text,
} from './svg.ts'

interface Measurements {
  readonly backends: {
    readonly gflops: readonly (readonly [string, number])[]
    /** Device of a way, if it is not the processor's own cores. */
    readonly devices: Readonly<Record<string, string>>
    readonly shareOfCeiling: Readonly<Record<string, number>>
  }
  readonly masking: { readonly shares: readonly (readonly [string, number, number])[] }
}

/** Measurements of bench/backends.ts and bench/masking.ts, as they were recorded. */
function measurements(): Measurements {
  return JSON.parse(readFileSync(join(root, 'docs/tour/figures/measurements.json'), 'utf8'))
}

/** One record in the middle, its uses around it. */
function recordUses(): string {
  const uses: readonly (readonly [Point, readonly string[], string])[] = [
    [[90, 50], ['infer', 'shape or error'], blue],
    [[390, 50], ['forward', 'kernel of a backend'], blue],
    [[90, 150], ['save, vjp', 'gradient on the tape'], red],
    [[390, 150], ['decompose', 'the same in plain ops'], purple],
    [[90, 250], ['samples', 'inputs of every test'], green],
    [[390, 250], ['flops', 'profile'], gold],
  ]
  const parts = uses.map(([[x, y], lines, colour]) => box([x, y], [164, 50], lines, colour))
  parts.push(box([240, 150], [90, 60], ['record', 'of an op'], grey, 14))
  for (const [[x, y], , colour] of uses)
    parts.push(
      y === 150
        ? arrow(
            [
              [x < 240 ? 194 : 286, 150],
              [x < 240 ? 174 : 306, 150],
            ],
            { colour },
          )
        : arrow(
            [
              [240 + (x < 240 ? -30 : 30), y < 150 ? 119 : 181],
              [x + (x < 240 ? 60 : -60), y + (y < 150 ? 28 : -28)],
            ],
            { colour },
          ),
    )
  return figure([480, 290], 'One record and its uses', parts)
}

/** Errors of a difference quotient of Σ exp(sin x), plain and extrapolated to h = 0, by the number of halvings. */
function extrapolation(): string {
  const at = [0.3, 1.1, -0.7]
  const f = (h: number) =>
    sum(
      exp(
        sin(
          tensor(
            at.map(x => x + h),
            { dtype: 'f64', backend: cpu },
          ),
        ),
      ),
    ).dataSync()[0]
  const slope = at.reduce((total, x) => total + Math.cos(x) * Math.exp(Math.sin(x)), 0)
  const quotient = (h: number) => (f(h) - f(-h)) / (2 * h)
  let before: number[] = []
  const plain: Point[] = []
  const limit: Point[] = []
  for (let level = 0, h = 0.5; level < 9; level++, h /= 2) {
    const row = [quotient(h)]
    for (const [k, coarse] of before.entries()) row.push(row[k] + (row[k] - coarse) / (4 ** (k + 1) - 1))
    before = row
    const error = (value: number) => Math.max(1e-14, Math.abs(value - slope) / Math.abs(slope))
    plain.push([level, error(row[0])])
    limit.push([level, error(row.at(-1)!)])
  }
  const wrong: Point[] = plain.map(([level]) => [level, 1e-4])
  const curves: readonly (readonly [string, string, readonly Point[]])[] = [
    ['difference quotient', orange, plain],
    ['extrapolated to h = 0', blue, limit],
    ['a rule wrong by 0.01 %', red, wrong],
  ]
  const plot = {
    width: 380,
    height: 190,
    x: { domain: [0, 8] as const, title: 'halvings of h', whole: true },
    y: { domain: [1e-14, 1] as const, logarithmic: true, title: 'relative error' },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      [
        ...curves.map(([, colour, points]) =>
          polyline(
            points.map(([level, error]) => [x(level), y(error)] as const),
            { colour, width: 2 },
          ),
        ),
        legend(
          curves.map(([name]) => name),
          curves.map(([, colour]) => colour),
          [200, 106],
        ),
      ].join('\n'),
  }
  return plots([plot], 1, 'Errors of differences, plain and extrapolated')
}

/** Horizontal bars with their numbers. */
function bars(title: string, rows: readonly (readonly [string, number, string, string])[], most: number): string {
  const parts = rows.flatMap(([name, value, label, colour], i) => {
    const y = 20 + i * 46
    return [
      text([10, y], name, { anchor: 'start', size: 12.5 }),
      rect([10, y + 7], [(400 * value) / most, 16], { fill: colour, opacity: 0.7, width: 0 }),
      text([16 + (400 * value) / most, y + 20], label, { anchor: 'start', size: 12.5 }),
    ]
  })
  return figure([480, 14 + rows.length * 46], title, parts)
}

function speeds(): string {
  const { gflops, devices } = measurements().backends
  const colours = [orange, grey, blue, blue, green, purple, purple]
  const most = Math.max(...gflops.map(([, value]) => value))
  const title = (name: string) => (devices[name] === undefined ? name : `${name}: ${devices[name]}`)
  return bars(
    'GFLOP/s of one product',
    gflops.map(([name, value], i) => [title(name), value, `${value} GFLOP/s`, colours[i]] as const),
    most * 1.25,
  )
}

/** The tile of a product that stays in registers, with the panels that feed it. */
function tile(): string {
  const cell = 24
  const [x0, y0] = [190, 120]
  const parts: string[] = []
  for (let r = 0; r < 4; r++)
    for (let c = 0; c < 8; c++)
      parts.push(
        rect([x0 + c * cell, y0 + r * cell], [cell, cell], {
          fill: blue,
          colour: blue,
          width: 0.8,
          opacity: c < 4 ? 0.3 : 0.16,
        }),
      )
  for (let k = 0; k < 5; k++) {
    for (let r = 0; r < 4; r++)
      parts.push(
        rect([x0 - 150 + k * cell, y0 + r * cell], [cell, cell], {
          fill: k === 2 ? orange : grey,
          colour: k === 2 ? orange : grey,
          width: 0.8,
          opacity: k === 2 ? 0.5 : 0.1,
        }),
      )
    if (k < 3)
      for (let c = 0; c < 8; c++)
        parts.push(
          rect([x0 + c * cell, y0 - 90 + k * cell], [cell, cell], {
            fill: k === 1 ? green : grey,
            colour: k === 1 ? green : grey,
            width: 0.8,
            opacity: k === 1 ? 0.4 : 0.1,
          }),
        )
  }
  parts.push(text([x0 - 90, y0 + 4 * cell + 22], 'panel of A: 4 rows', { colour: orange }))
  parts.push(text([x0 + 96, y0 - 100], 'panel of B: 8 columns', { colour: green }))
  parts.push(text([x0 + 96, y0 + 4 * cell + 22], '4 × 8 of C in 8 registers', { colour: blue }))
  parts.push(
    arrow(
      [
        [x0 - 26, y0 + 48],
        [x0 - 6, y0 + 48],
      ],
      { colour: orange },
    ),
    arrow(
      [
        [x0 + 96, y0 - 16],
        [x0 + 96, y0 - 3],
      ],
      { colour: green },
    ),
  )
  parts.push(text([240, y0 + 4 * cell + 52], 'one step of k: 4 numbers of A, 2 registers of B, 32 multiply-adds'))
  return figure([480, 284], 'A tile of a matrix product', parts)
}

function savings(): string {
  const { shares } = measurements().masking
  return bars(
    'Cost of a masked step',
    shares.flatMap(([name, counted, measured]) => [
      [`${name}: multiply-adds`, counted, String(counted), grey] as const,
      ['measured', measured, String(measured), blue] as const,
    ]),
    2.2,
  )
}

/** The pairwise tree of eight parts, and its subtrees on four ranks. */
function tree(): string {
  const [left, step, base] = [40, 57, 60]
  const colours = [blue, orange, green, purple]
  const parts: string[] = []
  const x = (level: number, i: number) => left + step * ((i + 0.5) * 2 ** level - 0.5)
  for (let level = 0; level < 4; level++)
    for (let i = 0; i < 8 >> level; i++) {
      const at: Point = [x(level, i), base + level * 70]
      const colour = level < 2 ? colours[level === 0 ? i >> 1 : i] : grey
      parts.push(box(at, [40, 28], [level === 0 ? `g${i + 1}` : '+'], colour))
      if (level > 0)
        for (const child of [2 * i, 2 * i + 1])
          parts.push(
            line(
              [
                [x(level - 1, child), base + (level - 1) * 70 + 14],
                [at[0], at[1] - 14],
              ],
              { colour },
            ),
          )
    }
  for (let r = 0; r < 4; r++) parts.push(text([x(1, r), 30], `rank ${r}`, { colour: colours[r] }))
  parts.push(text([240, base + 3 * 70 + 40], 'one tree, on 1, 2, 4 or 8 ranks'))
  return figure([480, 320], 'The sum of eight gradients', parts)
}

function speedTable(): string {
  const { gflops, shareOfCeiling, devices } = measurements().backends
  const rows = gflops.map(([name, value]) => {
    const share = shareOfCeiling[name]
    const device = devices[name] === undefined ? '' : `: ${devices[name]}`
    return `| ${name}${device} | ${value} | ${share === undefined ? '' : `${(100 * share).toFixed(0)} %`} |`
  })
  return ['| | GFLOP/s | of the ceiling of that build |', '|---|---:|---:|', ...rows].join('\n')
}

function savingTable(): string {
  const rows = measurements().masking.shares.map(row => `| ${row.join(' | ')} |`)
  return [
    '| cost of a step, relative to the unmasked one | by multiply-adds | measured |',
    '|---|---:|---:|',
    ...rows,
  ].join('\n')
}

/** Figures of the three chapters. */
export const machine = {
  'record-uses': recordUses,
  extrapolation,
  'product-speeds': speeds,
  'product-tile': tile,
  'masking-savings': savings,
  'gradient-tree': tree,
}

/** Their tables. */
export const machineTables = { speeds: speedTable, savings: savingTable }
