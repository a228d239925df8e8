/**
 * Figures and tables of docs/evidence, made from the records alone: curves of a setting are means over its seeds, and every
 * seed is a point, so that the spread can be seen.
 */

import { discs, drawPlot, imageOf, legend, midInk, polyline } from '../../training/plot.ts'
import { costOf, minutesOf, multiplyAddsOf } from './costs.ts'
import type { Point, RunRecord } from './records.ts'
import { type AxisName, axes, type YardstickPoint } from './yardstick.ts'

const colours = ['#1f6fb4', '#d9661f', '#2a9152', '#8c52b8', '#b8912a', '#c23b5a']
const [width, height] = [520, 320]
/** Extent of a plot of the yardstick. */
const small = [200, 180] as const

/** Columns of the table, and the measures that can be drawn. */
export const measures = {
  heldOut: 'held-out loss',
  distance: 'distance',
  precision: 'precision',
  recall: 'recall',
} as const satisfies Partial<Record<keyof Point, string>>

export type MeasureName = keyof typeof measures

/** Costs that a measure can be drawn over; null where one is not known. */
export const costs = {
  step: { title: 'step', of: (_: RunRecord, step: number): number | null => step },
  work: {
    title: 'multiply-adds, 10¹²',
    of: ({ head }: RunRecord, step: number): number | null =>
      costOf(head, step, command => multiplyAddsOf(command) / 1e12),
  },
  time: {
    title: 'processor minutes',
    of: ({ head }: RunRecord, step: number): number | null => costOf(head, step, command => minutesOf(command)),
  },
} as const

export type CostName = keyof typeof costs

/** Runs of one setting: the name of a run is that of its setting and its seed. */
function settingsOf(records: readonly RunRecord[]): Map<string, readonly RunRecord[]> {
  const settings = new Map<string, RunRecord[]>()
  for (const record of records) {
    const setting = record.head.name.replace(/-\d+$/, '')
    settings.set(setting, [...(settings.get(setting) ?? []), record])
  }
  return settings
}

/** Values of the seeds of a setting at a step. */
function valuesAt(records: readonly RunRecord[], step: number, measure: MeasureName): number[] {
  return records.flatMap(({ points }) => points.filter(point => point.step === step).map(point => point[measure]))
}

function stepsOf(records: readonly RunRecord[]): number[] {
  const steps = new Set(records.flatMap(({ points }) => points.map(({ step }) => step)))
  return [...steps].sort((a, b) => a - b)
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Returns an SVG of a measure over a cost, logarithmic, one colour a setting; null where a cost is not known. */
export function figureOf(records: readonly RunRecord[], measure: MeasureName, cost: CostName): string | null {
  const settings = [...settingsOf(records)]
  const { title } = costs[cost]
  if (records.some(record => costs[cost].of(record, 0) === null)) return null
  const of = (record: RunRecord, step: number) => costs[cost].of(record, step)!
  const values = records.flatMap(({ points }) => points.map(point => point[measure]))
  const ends = records.flatMap(record => record.points.map(({ step }) => of(record, step)))
  const plot = drawPlot({
    width,
    height,
    ink: midInk,
    x: { domain: [0, Math.max(...ends)], title, whole: cost === 'step' },
    y: { domain: [0.9 * Math.min(...values), 1.1 * Math.max(...values)], title: measures[measure], logarithmic: true },
    marks: (x, y) =>
      [
        ...settings.map(([, runs], i) => {
          const line = stepsOf(runs).map(
            step => [x(of(runs[0], step)), y(mean(valuesAt(runs, step, measure)))] as const,
          )
          return polyline(line, { colour: colours[i % colours.length], width: 2 })
        }),
        ...settings.map(([, runs], i) => {
          const points = runs.flatMap(run =>
            run.points.map(point => [x(of(run, point.step)), y(point[measure])] as const),
          )
          return discs(points, colours[i % colours.length], 3)
        }),
        legend(
          settings.map(([name]) => name),
          settings.map((_, i) => colours[i % colours.length]),
          width,
          midInk,
        ),
      ].join('\n'),
  })
  return `${imageOf([plot], [width], height, 12)}\n`
}

/** Returns an SVG of the training losses (thin) and held-out losses (thick) of runs over steps. */
export function lossFigureOf(records: readonly RunRecord[]): string {
  const rows = records.map(({ points }) => points.flatMap(({ losses }) => losses))
  const values = rows.flat().flatMap(([, loss, heldOut]) => [loss, heldOut])
  const plot = drawPlot({
    width,
    height,
    ink: midInk,
    x: { domain: [0, Math.max(...rows.flat().map(([step]) => step))], title: 'step', whole: true },
    y: { domain: [0.95 * Math.min(...values), 1.05 * Math.max(...values)], title: 'loss', logarithmic: true },
    marks: (x, y) =>
      [
        ...rows.flatMap((losses, i) => {
          const colour = colours[i % colours.length]
          return [
            polyline(
              losses.map(([step, loss]) => [x(step), y(loss)] as const),
              { colour, width: 1, opacity: 0.6 },
            ),
            polyline(
              losses.map(([step, , heldOut]) => [x(step), y(heldOut)] as const),
              { colour, width: 2 },
            ),
          ]
        }),
        legend(
          records.map(({ head }) => head.name),
          records.map((_, i) => colours[i % colours.length]),
          width,
          midInk,
        ),
      ].join('\n'),
  })
  return `${imageOf([plot], [width], height, 12)}\n`
}

/** Returns a Markdown table: a row for each setting and step, with the range over seeds where there are several. */
export function tableOf(records: readonly RunRecord[]): string {
  const names = Object.keys(measures) as MeasureName[]
  const rows = [...settingsOf(records)].flatMap(([setting, runs]) =>
    stepsOf(runs).map(step => {
      const cells = names.map(name => rangeOf(valuesAt(runs, step, name), name === 'heldOut' ? 4 : 2))
      const seeds = valuesAt(runs, step, 'distance').length
      const [work, minutes] = [costs.work, costs.time].map(({ of }) => of(runs[0], step)?.toFixed(1) ?? '')
      return `| ${setting} | ${seeds} | ${step.toLocaleString('en')} | ${work} | ${minutes} | ${cells.join(' | ')} |`
    }),
  )
  return [
    `| setting | seeds | step | 10¹² multiply-adds | minutes | ${names.map(name => measures[name]).join(' | ')} |`,
    `|---|---:|---:|---:|---:|${names.map(() => '---:').join('|')}|`,
    ...rows,
  ].join('\n')
}

/**
 * Returns a Markdown table of the ends of curves: a row for each setting whose last point was measured with more samples, with
 * the distance under guidance if it was measured for one of them; null where there is no such point.
 */
export function endTableOf(records: readonly RunRecord[]): string | null {
  const guidance = records.some(({ points }) => points.some(({ guided }) => guided !== undefined))
  const rows = [...settingsOf(records)].flatMap(([setting, runs]) => {
    const points = runs.flatMap(({ points }) => points.filter(({ end }) => end !== undefined))
    if (points.length === 0) return []
    const cells = (['distance', 'precision', 'recall'] as const).map(name =>
      rangeOf(
        points.map(({ end }) => end![name]),
        2,
      ),
    )
    const guided = points.flatMap(point => point.guided?.distance ?? [])
    if (guidance) cells.push(guided.length === 0 ? '' : rangeOf(guided, 2))
    return `| ${setting} | ${points.length} | ${points[0].step.toLocaleString('en')} | ${cells.join(' | ')} |`
  })
  if (rows.length === 0) return null
  const last = guidance ? [' with guidance |', '---:|'] : ['', '']
  return [
    `| setting | seeds | step | distance | precision | recall |${last[0]}`,
    `|---|---:|---:|---:|---:|---:|${last[1]}`,
    ...rows,
  ].join('\n')
}

function rangeOf(values: readonly number[], digits: number): string {
  const shown = mean(values).toFixed(digits)
  if (values.length === 1) return shown
  return `${shown} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`
}

// ---- the yardstick --------------------------------------------------------------------------------------------------

/** Returns an SVG of the distance over axes of the yardstick, beside each other, with the range of real pictures. */
export function yardstickFigureOf(points: readonly YardstickPoint[], kinds: readonly AxisName[]): string {
  const [w, h] = small
  const floor = distancesOf(points, 'real', points.find(({ kind }) => kind === kinds[0])!.samples)
  const shown = kinds.map(kind => points.filter(point => point.kind === kind))
  const values = [...floor, ...shown.flat().map(({ distance }) => distance)]
  const domain = [0.8 * Math.min(...values), 1.2 * Math.max(...values)] as const
  const plots = kinds.map((kind, i) => {
    const { title, strengths } = axes[kind]
    return drawPlot({
      width: w,
      height: h,
      ink: midInk,
      x: { domain: [0, strengths.at(-1)!], title },
      y: { domain, logarithmic: true, ...(i === 0 && { title: 'distance' }) },
      marks: (x, y) => {
        const line = shown[i].map(({ strength, distance }) => [x(strength), y(distance)] as const)
        const band = [Math.max(...floor), Math.min(...floor)].map(y)
        return [
          `<rect x="0" y="${band[0].toFixed(2)}" width="${w}" height="${(band[1] - band[0]).toFixed(2)}" fill="#80808040"/>`,
          polyline(line, { colour: colours[0], width: 2 }),
          discs(line, colours[0], 3),
        ].join('\n')
      },
    })
  })
  return `${imageOf(
    plots,
    kinds.map(() => w),
    h,
    12,
  )}\n`
}

function distancesOf(points: readonly YardstickPoint[], kind: YardstickPoint['kind'], samples: number): number[] {
  return points.filter(point => point.kind === kind && point.samples === samples).map(({ distance }) => distance)
}

/** Returns a Markdown table of real pictures against the set: the floor at each number of samples. */
export function floorTableOf(points: readonly YardstickPoint[]): string {
  const real = points.filter(({ kind }) => kind === 'real')
  const counts = [...new Set(real.map(({ samples }) => samples))]
  const row = (title: string, some: readonly YardstickPoint[]) => {
    const cells = (['distance', 'precision', 'recall'] as const).map(name =>
      rangeOf(
        some.map(point => point[name]),
        2,
      ),
    )
    return `| ${title} | ${some[0].samples.toLocaleString('en')} | ${some.length} | ${cells.join(' | ')} |`
  }
  return [
    '| real pictures | samples | draws | distance | precision | recall |',
    '|---|---:|---:|---:|---:|---:|',
    ...counts.map(count =>
      row(
        'in the shares of the set',
        real.filter(({ samples }) => samples === count),
      ),
    ),
    row(
      'as many of each category',
      points.filter(({ kind }) => kind === 'even'),
    ),
  ].join('\n')
}
