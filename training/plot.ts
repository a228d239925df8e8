/**
 * Plots as SVG, written from data: scales, ticks, axes with grid lines, lines and points. charts.ts chooses what is drawn.
 */

/** One direction of a plot. */
export interface Axis {
  /** Smallest and largest value. Both above 0 where logarithmic. */
  readonly domain: readonly [number, number]
  readonly title?: string
  readonly logarithmic?: boolean
  /** Ticks at whole numbers only. */
  readonly whole?: boolean
}

/** Colours of a plot's text and lines. */
export interface Ink {
  readonly title: string
  readonly label: string
  readonly axis: string
  readonly grid: string
}

/** Ink for a white background. */
export const darkInk: Ink = { title: '#222', label: '#444', axis: '#999', grid: '#eee' }
/** Ink for a page that is white or black: mid tones. */
export const midInk: Ink = { title: '#7b828a', label: '#7b828a', axis: '#7b828a', grid: '#80808033' }

/** Maps a value to a coordinate, in units of the plot. */
export type Scale = (value: number) => number

/** A rectangle with two axes. */
export interface Plot {
  readonly width: number
  readonly height: number
  readonly title?: string
  readonly x: Axis
  readonly y: Axis
  /** Default: `darkInk`. */
  readonly ink?: Ink
  /** SVG of the data, over the grid. */
  marks(x: Scale, y: Scale): string
}

/** SVG, and the extent of what it holds: the plot's rectangle begins at (0, 0), labels and titles lie around it. */
export interface Drawn {
  readonly svg: string
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

const font = 'DejaVu Sans, Helvetica, Arial, sans-serif'
const labelSize = 11
const titleSize = 13
/** Width of a digit relative to the size of the font. */
const digitWidth = 0.64

/** Draws a plot. */
export function drawPlot({ width, height, title, x, y, ink = darkInk, marks }: Plot): Drawn {
  const [across, down] = [scaleOf(x, 0, width), scaleOf(y, height, 0)]
  const [xTicks, yTicks] = [
    ticksOf(x, width, 8, labelWidth),
    ticksOf(y, height, Math.ceil(height / 40), () => labelSize),
  ]
  const widest = yTicks.reduce((most, tick) => Math.max(most, labelWidth(tick)), 0)
  const parts = [
    ...xTicks.map(tick => line(across(tick), 0, across(tick), height, ink.grid)),
    ...yTicks.map(tick => line(0, down(tick), width, down(tick), ink.grid)),
    marks(across, down),
    line(0, height, width, height, ink.axis),
    line(0, 0, 0, height, ink.axis),
    ...xTicks.flatMap(tick => [
      line(across(tick), height, across(tick), height + 5, ink.axis),
      text(across(tick), height + 8 + labelSize, labelOf(tick), {
        size: labelSize,
        colour: ink.label,
        anchor: 'middle',
      }),
    ]),
    ...yTicks.flatMap(tick => [
      line(-5, down(tick), 0, down(tick), ink.axis),
      text(-8, down(tick) + 0.36 * labelSize, labelOf(tick), { size: labelSize, colour: ink.label, anchor: 'end' }),
    ]),
  ]
  let [left, top, bottom] = [8 + widest, 6, 8 + 1.4 * labelSize]
  const heading = { size: titleSize, colour: ink.title, anchor: 'middle' } as const
  if (x.title) {
    bottom += 1.5 * titleSize
    parts.push(text(width / 2, height + bottom - 0.3 * titleSize, x.title, heading))
  }
  if (y.title) {
    left += 1.7 * titleSize
    parts.push(
      `<g transform="translate(${-left + titleSize} ${height / 2}) rotate(-90)">${text(0, 0, y.title, heading)}</g>`,
    )
  }
  if (title) {
    top += 1.6 * titleSize
    parts.push(text(width / 2, -0.7 * titleSize, title, heading))
  }
  return { svg: parts.join('\n'), left, right: 14, top, bottom }
}

/** A whole image of plots side by side, with `padding` around them and between. */
export function imageOf(plots: readonly Drawn[], widths: readonly number[], heights: number, padding: number): string {
  const top = padding + plots.reduce((most, plot) => Math.max(most, plot.top), 0)
  const bottom = padding + plots.reduce((most, plot) => Math.max(most, plot.bottom), 0)
  let right = padding
  const placed = plots.map((plot, i) => {
    const at = right + plot.left
    right = at + widths[i] + plot.right + padding
    return `<g transform="translate(${number(at)} ${number(top)})">\n${plot.svg}\n</g>`
  })
  const [W, H] = [Math.ceil(right), Math.ceil(top + heights + bottom)]
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${W}" height="${H}" viewBox="0 0 ${W} ${H}" font-family="${font}">\n${placed.join('\n')}\n</svg>`
}

/** A line through points, or a disc where there is one; `opacity` in [0, 1]. */
export function polyline(
  points: readonly (readonly [x: number, y: number])[],
  { colour, width, opacity = 1 }: { readonly colour: string; readonly width: number; readonly opacity?: number },
): string {
  if (points.length === 1) return discs(points, colour, 2 * width)
  const path = points.map(([x, y]) => `${number(x)},${number(y)}`).join(' ')
  return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-opacity="${opacity}" stroke-linejoin="round"/>`
}

/** Discs of one colour and of radius `r` at points. */
export function discs(points: readonly (readonly [x: number, y: number])[], colour: string, r: number): string {
  const circles = points.map(([x, y]) => `<circle cx="${number(x)}" cy="${number(y)}" r="${r}"/>`)
  return `<g fill="${colour}" fill-opacity="0.6">${circles.join('')}</g>`
}

/** Names of lines in the upper right corner of a plot. */
export function legend(
  names: readonly string[],
  colours: readonly string[],
  width: number,
  ink: Ink = darkInk,
): string {
  const left = width - 40 - names.reduce((most, name) => Math.max(most, name.length), 0) * 12 * digitWidth
  return names
    .map((name, i) => {
      const y = 14 + 18 * i
      const label = text(left + 26, y + 4, name, { size: 12, colour: ink.title, anchor: 'start' })
      return `${line(left, y, left + 20, y, colours[i], 2.5)}${label}`
    })
    .join('\n')
}

function scaleOf({ domain, logarithmic }: Axis, from: number, to: number): Scale {
  const [low, high] = logarithmic ? domain.map(Math.log) : domain
  return value => from + (((logarithmic ? Math.log(value) : value) - low) / (high - low)) * (to - from)
}

/** At most `most` ticks, so far apart that labels of a given extent do not touch. */
function ticksOf(axis: Axis, length: number, most: number, extent: (tick: number) => number): number[] {
  const scale = scaleOf(axis, 0, length)
  const fits = (ticks: readonly number[]) =>
    ticks.every(
      (tick, i) => i === 0 || scale(tick) - scale(ticks[i - 1]) >= (extent(tick) + extent(ticks[i - 1])) / 2 + 6,
    )
  for (let count = most; count > 1; count--) {
    const ticks = axis.logarithmic ? logarithmicTicks(axis, most - count) : linearTicks(axis, count)
    if (fits(ticks)) return ticks
  }
  return [axis.domain[0]]
}

/** About `count` multiples of 1, 2 or 5 times a power of ten. */
function linearTicks({ domain: [low, high], whole }: Axis, count: number): number[] {
  const raw = (high - low) / count
  const power = 10 ** Math.floor(Math.log10(raw))
  const ratio = raw / power
  const step = power * (ratio >= Math.sqrt(50) ? 10 : ratio >= Math.sqrt(10) ? 5 : ratio >= Math.SQRT2 ? 2 : 1)
  const each = whole ? Math.max(1, step) : step
  const [first, last] = [Math.ceil(low / each - 1e-9), Math.floor(high / each + 1e-9)]
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * each).toPrecision(12)))
}

/** 1, 2 and 5 times the powers of ten; at a higher `level` the powers alone, and then every second, third, … of them. */
function logarithmicTicks({ domain: [low, high] }: Axis, level: number): number[] {
  const ticks: number[] = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    if (level > 0 && power % level !== 0) continue
    for (const digit of level === 0 ? [1, 2, 5] : [1]) {
      const tick = Number(`${digit}e${power}`)
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push(tick)
    }
  }
  return ticks
}

/** 1,000 and −0.002 and 5e-7. */
function labelOf(tick: number): string {
  if (tick < 0) return `−${labelOf(-tick)}`
  if (Number.isInteger(tick) && tick < 1e9) return tick.toLocaleString('en')
  const short = Number(tick.toPrecision(6))
  return tick < 1e-4 || tick >= 1e9 ? short.toExponential().replace('+', '') : String(short)
}

function labelWidth(tick: number): number {
  return labelOf(tick).length * labelSize * digitWidth
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string {
  const at = [x1, y1, x2, y2].map(number)
  return `<line x1="${at[0]}" y1="${at[1]}" x2="${at[2]}" y2="${at[3]}" stroke="${colour}" stroke-width="${width}"/>`
}

interface TextStyle {
  readonly size: number
  readonly colour: string
  readonly anchor: 'start' | 'middle' | 'end'
}

function text(x: number, y: number, content: string, { size, colour, anchor }: TextStyle): string {
  const safe = content.replace(/[&<>]/g, sign => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]!)
  return `<text x="${number(x)}" y="${number(y)}" font-size="${size}" fill="${colour}" text-anchor="${anchor}">${safe}</text>`
}

/** A coordinate with two digits after the point. */
function number(value: number): string {
  return String(Math.round(100 * value) / 100)
}
