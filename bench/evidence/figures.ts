/**
 * Figures and tables of docs/evidence, made from the records alone: curves of a setting are means over its seeds, and every
 * seed is a point, so that the spread can be seen.
 */

import { discs, drawPlot, imageOf, legend, polyline } from '../../training/plot.ts'
import type { Point, RunRecord } from './records.ts'

const colours = ['#1f6fb4', '#d9661f', '#2a9152', '#8c52b8', '#b8912a', '#c23b5a']
const [width, height] = [520, 320]

/** Columns of the table, and the measures that can be drawn. */
export const measures = {
  heldOut: 'held-out loss',
  distance: 'distance',
  precision: 'precision',
  recall: 'recall',
} as const satisfies Partial<Record<keyof Point, string>>

export type MeasureName = keyof typeof measures

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

/** Returns an SVG of a measure over steps, logarithmic, one colour a setting. */
export function figureOf(records: readonly RunRecord[], measure: MeasureName): string {
  const settings = [...settingsOf(records)]
  const all = records.flatMap(({ points }) => points)
  const steps = all.map(({ step }) => step)
  const values = all.map(point => point[measure])
  const plot = drawPlot({
    width,
    height,
    x: { domain: [0, Math.max(...steps)], title: 'step', whole: true },
    y: { domain: [0.9 * Math.min(...values), 1.1 * Math.max(...values)], title: measures[measure], logarithmic: true },
    marks: (x, y) =>
      [
        ...settings.map(([, runs], i) => {
          const line = stepsOf(runs).map(step => [x(step), y(mean(valuesAt(runs, step, measure)))] as const)
          return polyline(line, { colour: colours[i % colours.length], width: 2 })
        }),
        ...settings.map(([, runs], i) => {
          const points = runs.flatMap(run => run.points.map(point => [x(point.step), y(point[measure])] as const))
          return discs(points, colours[i % colours.length], 3)
        }),
        legend(
          settings.map(([name]) => name),
          colours,
          width,
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
      return `| ${setting} | ${valuesAt(runs, step, 'distance').length} | ${step.toLocaleString('en')} | ${cells.join(' | ')} |`
    }),
  )
  return [
    `| setting | seeds | step | ${names.map(name => measures[name]).join(' | ')} |`,
    `|---|---:|---:|${names.map(() => '---:').join('|')}|`,
    ...rows,
  ].join('\n')
}

function rangeOf(values: readonly number[], digits: number): string {
  const shown = mean(values).toFixed(digits)
  if (values.length === 1) return shown
  return `${shown} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`
}
