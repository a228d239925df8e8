/**
 * Charts: curves over steps and point clouds, as SVG, which sharp renders where a PNG is wanted. Needs Node, and a font on
 * the system for the labels. plot.ts has the axes.
 */

import { arrayOf, aString, check, numbers, objectWith, optional, strings } from '../core/arguments.ts'
import { rows as someRows } from './arguments.ts'
import type { Row } from './metrics.ts'
import { writePng } from './pictures.ts'
import { discs, drawPlot, imageOf, legend, polyline } from './plot.ts'

const colours = ['#1f6fb4', '#d9661f', '#2a9152', '#8c52b8', '#b8912a', '#c23b5a']

/** Points of the raw curve that are drawn at most; neighbours are averaged beyond that. */
const mostPoints = 1200

/**
 * Writes the chosen columns of a metrics log against the step: every value faintly, and their running mean over a
 * twentieth of the run as a line; the scale is logarithmic where the means are positive and span a power of ten. Throws
 * UserError where the file cannot be written.
 */
export async function writeLossCurve(path: string, rows: readonly Row[], terms: readonly string[]): Promise<void> {
  check('writeLossCurve', 'path', path, aString)
  check('writeLossCurve', 'rows', rows, someRows)
  check('writeLossCurve', 'terms', terms, strings)
  const svg = curves(rows, terms, { width: 720, height: 400, padding: 16, title: 'loss', named: true })
  await writeSvgAsPng(path, svg)
}

/** The same as SVG, which scales with the page that it is in, with the proportions of `width`; several columns are named. */
export async function curveSvg(rows: readonly Row[], terms: readonly string[], width = 400): Promise<string> {
  const height = width > 400 ? 300 : 190
  const svg = curves(rows, terms, { width, height, padding: 4, named: terms.length > 1 })
  return svg.replace(/ width="\d+" height="\d+"/, '')
}

interface CurveOptions {
  readonly width: number
  readonly height: number
  readonly padding: number
  readonly title?: string
  /** Name the curves in a legend. */
  readonly named?: boolean
}

function curves(
  rows: readonly Row[],
  terms: readonly string[],
  { width, height, padding, title, named = false }: CurveOptions,
): string {
  const drawn = terms.map((term, i) => {
    const points = rows.filter(row => Number.isFinite(row[term])).map(row => ({ step: row.step, value: row[term] }))
    const raw = thin(points)
    return { raw, smooth: smooth(raw), colour: colours[i % colours.length] }
  })
  const means = drawn.flatMap(curve => curve.smooth.map(({ value }) => value))
  const least = means.reduce((a, b) => Math.min(a, b), Infinity)
  const logarithmic = least > 0 && means.some(value => value > 10 * least)
  const shown = (points: readonly Point[]) => points.filter(({ value }) => !logarithmic || value > 0)
  const all = drawn.flatMap(curve => shown(curve.raw))
  const plot = drawPlot({
    width,
    height,
    x: { domain: rangeOf(all.map(({ step }) => step)), title: 'step', whole: true },
    y: { domain: rangeOf(all.map(({ value }) => value)), title, logarithmic },
    marks: (x, y) => {
      const at = (points: readonly Point[]) => shown(points).map(({ step, value }) => [x(step), y(value)] as const)
      return [
        ...drawn.map(({ raw, colour }) => polyline(at(raw), { colour, width: 1, opacity: 0.3 })),
        ...drawn.map(({ smooth, colour }) => polyline(at(smooth), { colour, width: 2.2 })),
        ...(named ? [legend(terms, colours, width)] : []),
      ].join('\n')
    },
  })
  return imageOf([plot], [width], height, padding)
}

/** Smallest and largest value; an interval around them where they are one, [0, 1] where there are none. */
function rangeOf(values: readonly number[]): [number, number] {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity)
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity)
  if (low > high) return [0, 1]
  const reach = Math.abs(low) / 2 || 1
  return low === high ? [low - reach, high + reach] : [low, high]
}

/** Points in the plane, one panel of a scatter picture. */
export interface Scatter {
  readonly title: string
  /** (N, 2) */
  readonly points: ArrayLike<number>
  /** (N): points of the same number have the same colour. One colour by default. */
  readonly classes?: ArrayLike<number>
}

const scatters = arrayOf(
  'panels with a title and points',
  objectWith('', { title: aString, points: numbers, classes: optional(numbers) }),
)

/** Writes point clouds as panels side by side, on one scale that is the same in both directions. Throws as above. */
export async function writeScatter(path: string, panels: readonly Scatter[]): Promise<void> {
  check('writeScatter', 'path', path, aString)
  check('writeScatter', 'panels', panels, scatters)
  const bound =
    1.05 * panels.reduce((most, { points }) => Array.from(points).reduce((m, x) => Math.max(m, Math.abs(x)), most), 0)
  const side = 320
  const domain = [-(bound || 1), bound || 1] as const
  const plots = panels.map(({ title, points, classes }) =>
    drawPlot({
      width: side,
      height: side,
      title,
      x: { domain, title: 'x₁' },
      y: { domain, title: 'x₂' },
      marks: (x, y) =>
        colours
          .map((colour, k) => {
            const own = Array.from({ length: points.length / 2 }, (_, i) => i)
              .filter(i => (classes?.[i] ?? 0) % colours.length === k)
              .map(i => [x(points[2 * i]), y(points[2 * i + 1])] as const)
            return discs(own, colour, 1.7)
          })
          .join('\n'),
    }),
  )
  const svg = imageOf(
    plots,
    plots.map(() => side),
    side,
    16,
  )
  await writeSvgAsPng(path, svg)
}

/** Writes an SVG over white, two pixels for each unit. */
async function writeSvgAsPng(path: string, svg: string): Promise<void> {
  const onWhite = svg.replace('>', '><rect width="100%" height="100%" fill="white"/>')
  await writePng(path, Buffer.from(onWhite), { density: 144 })
}

interface Point {
  readonly step: number
  readonly value: number
}

/** At most `mostPoints` points: means of equal runs of neighbours. */
function thin(points: readonly Point[]): Point[] {
  const run = Math.ceil(points.length / mostPoints)
  if (run <= 1) return [...points]
  return Array.from({ length: Math.ceil(points.length / run) }, (_, i) => {
    const some = points.slice(i * run, (i + 1) * run)
    return { step: some[some.length >> 1].step, value: some.reduce((sum, { value }) => sum + value, 0) / some.length }
  })
}

/** The mean of each point's neighbourhood, a twentieth of the curve; narrower at the steep beginning. */
function smooth<P extends Point>(points: readonly P[]): P[] {
  const reach = Math.ceil(points.length / 40)
  return points.map((point, i) => {
    const half = Math.min(reach, i)
    const some = points.slice(i - half, i + half + 1)
    return { ...point, value: some.reduce((sum, { value }) => sum + value, 0) / some.length }
  })
}
