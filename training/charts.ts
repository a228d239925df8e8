/**
 * Charts: curves over steps and point clouds, drawn by vega as SVG, and rendered by sharp where a PNG is wanted. Needs Node, and a font on the
 * system for the labels.
 */

import sharp from 'sharp'
import { type Mark, parse, type Spec, View } from 'vega'
import type { Row } from './metrics.ts'
import { writePng } from './pictures.ts'

const colours = ['#1f6fb4', '#d9661f', '#2a9152', '#8c52b8', '#b8912a', '#c23b5a']
const font = 'DejaVu Sans, Helvetica, Arial, sans-serif'
const axis = { domainColor: '#999', tickColor: '#999', gridColor: '#eee', labelColor: '#444', titleColor: '#222' }

/** Where a logarithmic axis has its ticks: 1, 2 and 5 times the powers of ten. */
const steps125 = Array.from({ length: 14 }, (_, i) => [1, 2, 5].map(digit => digit * 10 ** (i - 7))).flat()

/** Points of the raw curve that are drawn at most; neighbours are averaged beyond that. */
const mostPoints = 1200

/**
 * Writes the chosen columns of a metrics log against the step: every value faintly, and their running mean over a
 * twentieth of the run as a line; the scale is logarithmic where the means are positive and span a power of ten. Throws
 * UserError where the file cannot be written.
 */
export async function writeLossCurve(path: string, rows: readonly Row[], terms: readonly string[]): Promise<void> {
  await draw(path, { ...curves(rows, terms, 'loss'), width: 720, height: 400 })
}

/** The same of one column as SVG, which scales with the page that it is in. */
export async function curveSvg(rows: readonly Row[], term: string): Promise<string> {
  const { legends: _, ...spec } = curves(rows, [term], '')
  const svg = await svgOf({ ...spec, padding: 4, width: 400, height: 190 })
  return svg.replace(/^<svg[^>]*?viewBox="([^"]*)"[^>]*>/, '<svg xmlns="http://www.w3.org/2000/svg" viewBox="$1">')
}

function curves(rows: readonly Row[], terms: readonly string[], title: string): Spec {
  const drawn = terms.map(term => {
    const points = rows.filter(row => Number.isFinite(row[term])).map(row => ({ step: row.step, value: row[term] }))
    const raw = thin(points).map(point => ({ ...point, term }))
    return { raw, smooth: smooth(raw) }
  })
  const smoothed = drawn.flatMap(curve => curve.smooth)
  const means = smoothed.map(({ value }) => value)
  const least = means.reduce((a, b) => Math.min(a, b), Infinity)
  const logarithmic = least > 0 && means.some(value => value > 10 * least)
  const raw = drawn.flatMap(curve => curve.raw).filter(({ value }) => !logarithmic || value > 0)
  const line = (data: string, width: number, opacity: number): Mark => ({
    type: 'group',
    from: { facet: { name: `${data}OfTerm`, data, groupby: 'term' } },
    marks: [
      {
        type: 'line',
        from: { data: `${data}OfTerm` },
        encode: {
          enter: {
            x: { scale: 'x', field: 'step' },
            y: { scale: 'y', field: 'value' },
            stroke: { scale: 'colour', field: 'term' },
            strokeWidth: { value: width },
            strokeOpacity: { value: opacity },
            strokeJoin: { value: 'round' },
          },
        },
      },
    ],
  })
  return {
    padding: 16,
    background: 'white',
    data: [
      { name: 'raw', values: raw },
      { name: 'smooth', values: smoothed },
    ],
    scales: [
      { name: 'x', type: 'linear', range: 'width', domain: { data: 'raw', field: 'step' }, zero: false },
      {
        name: 'y',
        type: logarithmic ? 'log' : 'linear',
        range: 'height',
        domain: { data: 'raw', field: 'value' },
        zero: false,
      },
      { name: 'colour', type: 'ordinal', domain: [...terms], range: colours },
    ],
    axes: [
      {
        orient: 'bottom',
        scale: 'x',
        title: 'step',
        grid: true,
        tickCount: 8,
        tickMinStep: 1,
        labelOverlap: true,
        format: ',.0f',
        ...axis,
      },
      {
        orient: 'left',
        scale: 'y',
        title,
        grid: true,
        ...(logarithmic ? { values: steps125, labelOverlap: true } : {}),
        format: '~g',
        ...axis,
      },
    ],
    legends: [
      { stroke: 'colour', orient: 'top-right', symbolType: 'stroke', symbolStrokeWidth: 2.5, labelColor: '#222' },
    ],
    marks: [line('raw', 1, 0.3), line('smooth', 2.2, 1)],
  }
}

/** Points in the plane, one panel of a scatter picture. */
export interface Scatter {
  readonly title: string
  /** (N, 2) */
  readonly points: ArrayLike<number>
  /** (N): points of the same number have the same colour. One colour by default. */
  readonly classes?: ArrayLike<number>
}

/** Writes point clouds as panels side by side, on one scale that is the same in both directions. Throws as above. */
export async function writeScatter(path: string, panels: readonly Scatter[]): Promise<void> {
  const bound =
    1.05 * panels.reduce((most, { points }) => Array.from(points).reduce((m, x) => Math.max(m, Math.abs(x)), most), 0)
  const side = 320
  const scale = { type: 'linear' as const, domain: [-bound, bound] }
  await draw(path, {
    padding: 16,
    background: 'white',
    layout: { columns: panels.length, padding: 28 },
    scales: [{ name: 'colour', type: 'ordinal', domain: colours.map((_, i) => i), range: colours }],
    marks: panels.map(({ title, points, classes }, panel) => ({
      type: 'group' as const,
      title: { text: title, font, fontSize: 14, fontWeight: 'normal' as const, color: '#222' },
      encode: { enter: { width: { value: side }, height: { value: side } } },
      signals: ['width', 'height'].map(name => ({ name, value: side })), // what the axes' grid lines go by
      data: [
        {
          name: `points${panel}`,
          values: Array.from({ length: points.length / 2 }, (_, i) => ({
            x: points[2 * i],
            y: points[2 * i + 1],
            class: (classes?.[i] ?? 0) % colours.length,
          })),
        },
      ],
      scales: [
        { name: 'x', ...scale, range: [0, side] },
        { name: 'y', ...scale, range: [side, 0] },
      ],
      axes: [
        { orient: 'bottom' as const, scale: 'x', title: 'x₁', grid: true, tickCount: 6, ...axis },
        { orient: 'left' as const, scale: 'y', title: 'x₂', grid: true, tickCount: 6, ...axis },
      ],
      marks: [
        {
          type: 'symbol' as const,
          from: { data: `points${panel}` },
          encode: {
            enter: {
              x: { scale: 'x', field: 'x' },
              y: { scale: 'y', field: 'y' },
              size: { value: 9 },
              fill: { scale: 'colour', field: 'class' },
              fillOpacity: { value: 0.6 },
            },
          },
        },
      ],
    })),
  })
}

async function draw(path: string, spec: Spec): Promise<void> {
  const svg = await svgOf(spec)
  await writePng(path, sharp(Buffer.from(svg), { density: 144 })) // 2 pixels for each unit of the chart
}

async function svgOf(spec: Spec): Promise<string> {
  const text = {
    labelFont: font,
    titleFont: font,
    labelFontSize: 11,
    titleFontSize: 13,
    titleFontWeight: 'normal' as const,
  }
  const view = new View(parse({ ...spec, config: { axis: text, legend: { ...text, labelFontSize: 12 } } }), {
    renderer: 'none',
  })
  const svg = await view.toSVG()
  view.finalize()
  return svg
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
