/**
 * Primitives of the tour's figures: text, lines, boxes and pictures in SVG. Colours are mid tones, which read on white and on
 * black, since a page cannot pass its colours to a picture. At most 480 units wide, so that text reads on a phone too.
 */

import sharp from 'sharp'
import { toByte } from '../../data/dataset.ts'
import { drawPlot, imageOf, midInk, type Plot } from '../../training/plot.ts'

/** Largest width of a figure. */
export const widest = 480

/** Mid tones: text and lines, and the data's colours. */
export const grey = midInk.title
export const [blue, orange, green, purple, red, gold] = [
  '#3b82c4',
  '#d0711f',
  '#35955a',
  '#9a66c8',
  '#d0506e',
  '#a8842a',
] as const

/** A point or an extent, in units of the figure. */
export type Point = readonly [x: number, y: number]

/** Coordinates keep two digits after the point. */
export function round(value: number): number {
  return Math.round(100 * value) / 100
}

/** Style of text. */
export interface TextStyle {
  readonly size?: number
  readonly colour?: string
  readonly anchor?: 'start' | 'middle' | 'end'
  readonly bold?: boolean
  readonly italic?: boolean
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' }

/** A line of text whose baseline begins, ends or is centred at a point. */
export function text([x, y]: Point, content: string, style: TextStyle = {}): string {
  const { size = 13, colour = grey, anchor = 'middle', bold = false, italic = false } = style
  const font = `${bold ? ' font-weight="bold"' : ''}${italic ? ' font-style="italic"' : ''}`
  const safe = content.replace(/[&<>]/g, sign => escapes[sign])
  return `<text x="${round(x)}" y="${round(y)}" font-size="${size}" fill="${colour}" text-anchor="${anchor}"${font}>${safe}</text>`
}

/** Style of lines and outlines. */
export interface StrokeStyle {
  readonly colour?: string
  readonly width?: number
  readonly dashed?: boolean
}

function strokeOf({ colour = grey, width = 1.4, dashed = false }: StrokeStyle): string {
  return `stroke="${colour}" stroke-width="${width}"${dashed ? ' stroke-dasharray="4 3"' : ''}`
}

/** A line through points. */
export function line(points: readonly Point[], style: StrokeStyle = {}): string {
  const at = points.map(point => point.map(round).join(',')).join(' ')
  return `<polyline points="${at}" fill="none" stroke-linejoin="round" ${strokeOf(style)}/>`
}

/** A line through points with a head at its end. */
export function arrow(points: readonly Point[], style: StrokeStyle = {}): string {
  const [[x0, y0], [x1, y1]] = points.slice(-2)
  const length = Math.hypot(x1 - x0, y1 - y0) || 1
  const [dx, dy] = [(x1 - x0) / length, (y1 - y0) / length]
  const [back, side] = [7, 3.6]
  const head = [
    [x1, y1],
    [x1 - back * dx - side * dy, y1 - back * dy + side * dx],
    [x1 - back * dx + side * dy, y1 - back * dy - side * dx],
  ]
  const shaft = [...points.slice(0, -1), [x1 - back * dx, y1 - back * dy] as const]
  const at = head.map(point => point.map(round).join(',')).join(' ')
  return `${line(shaft, style)}<polygon points="${at}" fill="${style.colour ?? grey}"/>`
}

/** Style of a rectangle. `fill` is drawn at `opacity`, 0.16 by default. */
export interface RectStyle extends StrokeStyle {
  readonly fill?: string
  readonly opacity?: number
  readonly rounded?: number
}

/** A rectangle by its upper left corner and its size. */
export function rect([x, y]: Point, [w, h]: Point, style: RectStyle = {}): string {
  const { fill = 'none', opacity = 0.16, rounded = 0, width } = style
  const inside = fill === 'none' ? 'fill="none"' : `fill="${fill}" fill-opacity="${opacity}"`
  const stroke = width === 0 ? '' : ` ${strokeOf(style)}`
  const corners = rounded === 0 ? '' : ` rx="${rounded}"`
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}"${corners} ${inside}${stroke}/>`
}

/** A rounded box with lines of text in its middle; the first is bold. Centre, size. */
export function box([x, y]: Point, [w, h]: Point, lines: readonly string[], colour: string = grey, size = 13): string {
  const outline = rect([x - w / 2, y - h / 2], [w, h], { fill: colour, colour, rounded: 6 })
  const step = size + 3
  const first = y - ((lines.length - 1) * step) / 2 + 0.36 * size
  const labels = lines.map((content, i) => text([x, first + i * step], content, { size, colour, bold: i === 0 }))
  return [outline, ...labels].join('\n')
}

/** A picture of planes (C, H, W) in [−1, 1], clipped, in a square of side `side` at its upper left corner. */
export async function picture(at: Point, side: number, values: ArrayLike<number>, S: number): Promise<string> {
  const bytes = new Uint8Array(3 * S * S)
  for (let i = 0; i < S * S; i++) for (let c = 0; c < 3; c++) bytes[3 * i + c] = toByte(values[c * S * S + i])
  return imageAt(at, [side, side], bytes, [S, S])
}

/** An image of RGB bytes, row by row, shown without smoothing. */
export async function imageAt([x, y]: Point, [w, h]: Point, rgb: Uint8Array, [W, H]: Point): Promise<string> {
  const raw = { width: W, height: H, channels: 3 } as const
  const png = await sharp(rgb, { raw }).png({ compressionLevel: 9, adaptiveFiltering: false }).toBuffer()
  const at = `x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}"`
  return `<image ${at} style="image-rendering:pixelated" href="data:image/png;base64,${png.toString('base64')}"/>`
}

/** A whole figure of a width and a height. `title` is read aloud in place of the picture. */
export function figure([W, H]: Point, title: string, parts: readonly string[]): string {
  const font = 'DejaVu Sans, Helvetica, Arial, sans-serif'
  const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${round(W)}" height="${round(H)}" viewBox="0 0 ${round(W)} ${round(H)}" font-family="${font}" role="img">`
  return `${open}\n<title>${title}</title>\n${parts.join('\n')}\n</svg>\n`
}

/** Plots side by side or, with `columns` 1, one above the other. */
export function plots(all: readonly Omit<Plot, 'ink'>[], columns = 1, title?: string): string {
  const rows: string[] = []
  const drawn = all.map(plot => drawPlot({ ...plot, ink: midInk }))
  // Axes of plots under each other begin at the same place.
  const left = Math.max(...drawn.map(plot => plot.left))
  let [W, H] = [0, 0]
  for (let i = 0; i < all.length; i += columns) {
    const row = all.slice(i, i + columns)
    const svg = imageOf(
      drawn.slice(i, i + columns).map(plot => (columns === 1 ? { ...plot, left } : plot)),
      row.map(({ width }) => width),
      Math.max(...row.map(({ height }) => height)),
      4,
    )
    const [, w, h] = /width="(\d+)" height="(\d+)"/.exec(svg)!
    const inner = svg.slice(svg.indexOf('\n') + 1, svg.lastIndexOf('\n'))
    rows.push(`<g transform="translate(0 ${H})">\n${inner}\n</g>`)
    W = Math.max(W, Number(w))
    H += Number(h)
  }
  return figure([W, H], title ?? all.map(plot => plot.title ?? plot.y.title).join(', '), rows)
}

/** Names of lines under each other; the first at a point of the plot. */
export function legend(names: readonly string[], colours: readonly string[], [x, y]: Point): string {
  return names
    .map((name, i) => {
      const at = y + 18 * i
      const mark = line(
        [
          [x, at],
          [x + 18, at],
        ],
        { colour: colours[i], width: 2.5 },
      )
      return mark + text([x + 24, at + 4], name, { size: 12, anchor: 'start' })
    })
    .join('\n')
}
