/** Figures of the chapters on a multiplication and on the tape: areas, differences, broadcasting, a graph, memory. */

import {
  add,
  backward,
  checkpoint,
  cpu,
  gradients,
  matmul,
  mul,
  rng,
  scope,
  sin,
  square,
  stats,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
} from '../../core/index.ts'
import { polyline } from '../../training/plot.ts'
import { arrow, blue, figure, grey, legend, line, orange, type Point, plots, purple, rect, red, text } from './svg.ts'

const f64 = { dtype: 'f64', backend: cpu } as const

/** a · b as an area: making a longer by h adds a strip of b · h. */
function area(): string {
  const [x, y, scale] = [70, 50, 50]
  const [a, b, h] = [5, 2, 0.8]
  return figure([460, 220], 'A product as an area', [
    rect([x, y], [a * scale, b * scale], { fill: blue, colour: blue, opacity: 0.25 }),
    rect([x + a * scale, y], [h * scale, b * scale], { fill: orange, colour: orange, opacity: 0.35 }),
    text([x + (a * scale) / 2, y + (b * scale) / 2 + 5], 'y = a · b', { colour: blue, size: 16 }),
    text([x + (a + h / 2) * scale, y + (b * scale) / 2 + 5], 'h · b', { colour: orange, size: 14 }),
    text([x - 14, y + (b * scale) / 2 + 5], 'b', { size: 16, italic: true }),
    text([x + (a * scale) / 2, y + b * scale + 22], 'a', { size: 16, italic: true }),
    text([x + (a + h / 2) * scale, y + b * scale + 22], 'h', { size: 16, italic: true, colour: orange }),
    text([x + 150, y + b * scale + 56], 'Making a longer by h adds h · b, so ∂y/∂a = b.', { size: 14 }),
  ])
}

/** Error of (f(x + h) − f(x − h)) / 2h for f = x sin x at 1, in f64 and in f32. */
function differences(): string {
  const exact = Math.sin(1) + Math.cos(1)
  const hs = Array.from({ length: 61 }, (_, i) => 10 ** (-12 + i / 5))
  const errorOf = (dtype: 'f32' | 'f64', h: number) => {
    const f = (x: number) =>
      scope(() => mul(tensor(x, { dtype, backend: cpu }), sin(tensor(x, { dtype, backend: cpu })))).dataSync()[0]
    return Math.abs((f(1 + h) - f(1 - h)) / (2 * h) - exact)
  }
  const curves = (['f32', 'f64'] as const).map(dtype => hs.map(h => [h, Math.max(1e-13, errorOf(dtype, h))] as const))
  const colours = [orange, blue]
  const plot = {
    width: 380,
    height: 190,
    x: { domain: [1e-12, 1] as const, logarithmic: true, title: 'h' },
    y: { domain: [1e-13, 10] as const, logarithmic: true, title: 'error of the quotient' },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      [
        ...curves.map((points, i) =>
          polyline(
            points.map(([h, error]) => [x(h), y(Math.min(10, error))] as const),
            { colour: colours[i], width: 1.8 },
          ),
        ),
        legend(['in f32', 'in f64'], colours, [290, 14]),
      ].join('\n'),
  }
  return plots([plot], 1, 'Error of a difference quotient over its step')
}

/** The example of the chapter on a multiplication: a (3) times b (2, 1), with L = Σ y². */
export function broadcastExample() {
  const a = tensor([1, 2, 3], f64).requireGrad()
  const b = tensor([[2], [-1]], f64).requireGrad()
  const y = mul(a, b) // (2, 3)
  const [gy, ga, gb] = gradients(sum(square(y)), [y, a, b])
  const numbers = (t: Tensor) => Array.from(t.dataSync())
  return { a: numbers(a), b: numbers(b), y: numbers(y), gy: numbers(gy), ga: numbers(ga), gb: numbers(gb) }
}

const whole = (value: number) => String(value).replace('-', '−')

/** Cells of a matrix with `columns` columns. */
function matrix([x, y]: Point, values: readonly number[], columns: number, colour: string): string[] {
  const [w, h] = [42, 28]
  return values.map((value, i) => {
    const at: Point = [x + (i % columns) * w, y + Math.floor(i / columns) * h]
    return rect(at, [w, h], { fill: colour, colour, width: 0.8 }) + text([at[0] + w / 2, at[1] + 19], whole(value))
  })
}

/** Broadcasting forwards, and the sums that undo it backwards. */
function broadcasting(): string {
  const { a, b, y, gy, ga, gb } = broadcastExample()
  const products = (of: readonly number[]) => gy.map((g, i) => g * of[i])
  const throughA = products(y.map((_, i) => b[Math.floor(i / 3)]))
  return figure([480, 330], 'Broadcasting and its gradient', [
    text([110, 18], 'forwards', { colour: blue, bold: true }),
    text([370, 18], 'backwards', { colour: red, bold: true }),
    text([30, 52], 'a (3)', { anchor: 'start' }),
    ...matrix([76, 34], a, 3, blue),
    text([24, 92], 'b (2, 1)', { anchor: 'start', size: 12 }),
    ...matrix([24, 100], b, 1, blue),
    ...matrix([76, 100], y, 3, blue),
    text([139, 90], 'y = a ⊙ b (2, 3)'),
    text([370, 42], '∂L/∂y (2, 3)'),
    ...matrix([307, 50], gy, 3, red),
    text([370, 132], '∂L/∂y ⊙ b (2, 3)'),
    ...matrix([307, 140], throughA, 3, red),
    arrow(
      [
        [370, 200],
        [370, 224],
      ],
      { colour: purple },
    ),
    text([378, 217], 'sum over rows', { anchor: 'start', colour: purple, size: 12 }),
    ...matrix([307, 230], ga, 3, purple),
    text([370, 278], '∂L/∂a (3)'),
    ...matrix([139, 200], gb, 1, purple),
    text([128, 226], '∂L/∂b (2, 1):', { anchor: 'end' }),
    text([128, 244], 'sums over columns', { anchor: 'end', size: 12 }),
    text([240, 312], 'A value that was repeated receives the sum of its copies’ gradients.'),
  ])
}

/** Values and gradients of L = (w x + b − y)², w = 2, x = 3, b = 1, y = 5. */
export function tapeExample() {
  const leaf = (value: number) => tensor(value, f64).requireGrad()
  const [w, x, b, y] = [2, 3, 1, 5].map(leaf)
  const product = mul(w, x)
  const s = add(product, b)
  const e = sub(s, y)
  const L = square(e)
  const all = { w, x, b, y, product, s, e, L }
  const found = gradients(L, Object.values(all))
  return Object.fromEntries(
    Object.entries(all).map(([name, t], i) => [name, { value: t.dataSync()[0], gradient: found[i].dataSync()[0] }]),
  )
}

/** The graph of that example: a value in blue and a gradient in red at every node. */
function graph(): string {
  const found = tapeExample()
  const places: Readonly<Record<string, readonly [Point, string, string]>> = {
    w: [[60, 50], 'w', 'leaf'],
    x: [[60, 130], 'x', 'leaf'],
    b: [[60, 210], 'b', 'leaf'],
    y: [[60, 290], 'y', 'leaf'],
    product: [[180, 90], 'p = w · x', 'node 1'],
    s: [[300, 150], 's = p + b', 'node 2'],
    e: [[300, 250], 'e = s − y', 'node 3'],
    L: [[425, 250], 'L = e²', 'node 4'],
  }
  const edges = [
    ['w', 'product'],
    ['x', 'product'],
    ['product', 's'],
    ['b', 's'],
    ['s', 'e'],
    ['y', 'e'],
    ['e', 'L'],
  ] as const
  const parts = edges.map(([from, to]) => {
    const [[x0, y0]] = places[from]
    const [[x1, y1]] = places[to]
    return from === 's'
      ? arrow([
          [x0, y0 + 34],
          [x1, y1 - 34],
        ])
      : arrow([
          [x0 + 44, y0],
          [x1 - 50, y1],
        ])
  })
  for (const [name, [[x, y], title, kind]] of Object.entries(places)) {
    const { value, gradient } = found[name]
    const [w, h] = [kind === 'leaf' ? 84 : 96, 64]
    const colour = kind === 'leaf' ? purple : grey
    parts.push(rect([x - w / 2, y - h / 2], [w, h], { fill: colour, colour, rounded: 6 }))
    parts.push(text([x, y - 15], title, { bold: true, colour }))
    parts.push(text([x, y + 3], whole(value), { colour: blue }))
    parts.push(text([x, y + 22], `∂L: ${whole(gradient)}`, { colour: red }))
  }
  parts.push(
    text([410, 60], 'value', { colour: blue, anchor: 'start' }),
    text([410, 80], 'gradient of L', { colour: red, anchor: 'middle' }),
  )
  return figure([480, 335], 'A graph with values and gradients', parts)
}

/** A layer whose inside is worth four times its input. */
function layer(x: Tensor, w: Tensor): Tensor {
  return [1, 2, 3, 4].reduce(y => tanh(matmul(y, w)), x)
}

/** Live bytes after every layer of a network of 12 layers, forwards and then backwards. */
function memory(): string {
  const depth = 12
  const measure = (wrap: (fn: (x: Tensor) => Tensor, x: Tensor) => Tensor) => {
    const random = rng(1)
    const weights = Array.from({ length: depth }, () => random.normal([64, 64], f64).requireGrad())
    const before = stats(cpu).bytes
    const live: number[] = []
    const loss = scope(() => {
      let x = random.normal([256, 64], f64)
      for (const w of weights) {
        x = scope(() => wrap(x => layer(x, w), x))
        x.registerHook(() => void live.push(stats(cpu).bytes - before))
        live.push(stats(cpu).bytes - before)
      }
      return sum(x)
    })
    backward(loss)
    loss.dispose()
    for (const w of weights) {
      w.grad?.dispose()
      w.dispose()
    }
    return live.map(bytes => bytes / 2 ** 20)
  }
  const curves: readonly (readonly [string, string, readonly number[]])[] = [
    ['as it is', blue, measure((fn, x) => fn(x))],
    ['with checkpoints', orange, measure((fn, x) => checkpoint(([x]) => fn(x), [x]))],
  ]
  const top = 1.1 * Math.max(...curves.flatMap(([, , live]) => live))
  const plot = {
    width: 400,
    height: 180,
    x: { domain: [1, 2 * depth] as const, title: 'layer: 12 forwards, then 12 backwards', whole: true },
    y: { domain: [0, top] as const, title: 'live MiB' },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      [
        ...curves.map(([, colour, live]) =>
          polyline(
            live.map((mib, i) => [x(i + 1), y(mib)] as const),
            { colour, width: 2 },
          ),
        ),
        line(
          [
            [x(depth + 0.5), y(0)],
            [x(depth + 0.5), y(top)],
          ],
          { dashed: true, width: 1 },
        ),
        legend(
          curves.map(([name]) => name),
          curves.map(([, colour]) => colour),
          [8, 14],
        ),
      ].join('\n'),
  }
  return plots([plot], 1, 'Live memory of a step')
}

/** Figures of the two chapters. */
export const multiply = {
  'product-area': area,
  'difference-error': differences,
  broadcasting,
  'tape-graph': graph,
  'tape-memory': memory,
}
