/** Figures of the chapter on training: an optimizer in a valley, schedules, and recorded runs, good and bad. Needs Node. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { backward, cpu, mul, scope, square, sum, tensor } from '../../core/index.ts'
import { AdamW, cosine, Sgd, warmUp, warmUpDecay } from '../../nn/index.ts'
import { polyline } from '../../training/plot.ts'
import { root } from '../regions.ts'
import { blue, figure, green, grey, legend, orange, type Point, plots, red, text } from './svg.ts'
import type { Curves, variants } from './training-runs.ts'

/** The recorded runs, by the names of training-runs.ts. */
export function recorded(): Readonly<Record<keyof typeof variants, Curves>> {
  return JSON.parse(readFileSync(join(root, 'docs/tour/figures/training.json'), 'utf8'))
}

/** L(x, y) = ½ (x² + 25 y²): a valley that is 25 times as steep across as along. */
const curvature = [1, 25] as const

/** Positions of an optimizer in the valley, from (−4, 1.5). */
export function descend(name: 'sgd' | 'adamW', lr: number, steps: number): Point[] {
  const options = { dtype: 'f64', backend: cpu } as const
  const p = tensor([-4, 1.5], options).requireGrad()
  const parameters = [['p', p]] as const
  const optimizer =
    name === 'sgd' ? new Sgd(parameters, { lr }) : new AdamW(parameters, { lr, betas: [0.9, 0.999], weightDecay: 0 })
  const path: Point[] = []
  for (let i = 0; i <= steps; i++) {
    const [x, y] = p.dataSync()
    path.push([x, y])
    scope(() => {
      backward(sum(mul(mul(square(p), tensor(curvature, options)), 0.5)))
      optimizer.step()
      optimizer.zeroGrad()
    })
  }
  return path
}

/** Gradient descent and AdamW in the valley, over its level lines. */
function valley(): string {
  const paths = [
    ['gradient descent, lr 0.075', orange, descend('sgd', 0.075, 30)],
    ['AdamW, lr 0.3', blue, descend('adamW', 0.3, 30)],
  ] as const
  const ellipse = (level: number) =>
    Array.from({ length: 73 }, (_, i): Point => {
      const angle = (i * Math.PI) / 36
      return [
        Math.sqrt((2 * level) / curvature[0]) * Math.cos(angle),
        Math.sqrt((2 * level) / curvature[1]) * Math.sin(angle),
      ]
    })
  const plot = {
    width: 410,
    height: 200,
    x: { domain: [-5, 2] as const, title: 'x' },
    y: { domain: [-2, 2] as const, title: 'y' },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      [
        ...[0.05, 0.5, 2].map(level =>
          polyline(
            ellipse(level).map(([a, b]) => [x(a), y(b)] as const),
            { colour: grey, width: 1, opacity: 0.6 },
          ),
        ),
        ...paths.flatMap(([, colour, path]) => [
          polyline(
            path.map(([a, b]) => [x(a), y(b)] as const),
            { colour, width: 1.8 },
          ),
          ...path.map(([a, b]) => `<circle cx="${x(a).toFixed(1)}" cy="${y(b).toFixed(1)}" r="2.4" fill="${colour}"/>`),
        ]),
        legend(
          paths.map(([name]) => name),
          paths.map(([, colour]) => colour),
          [200, 166],
        ),
      ].join('\n'),
  }
  return plots([plot], 1, 'Gradient descent and AdamW in a valley')
}

/** A learning rate with warm-up and cosine, and the decay of an average that warms up. */
function overSteps(): string {
  const steps = Array.from({ length: 201 }, (_, i) => 5 * i)
  const rate = warmUp(100, cosine(1e-3, 1000))
  const decay = warmUpDecay(0.999)
  const curve = (of: (step: number) => number, top: number, title: string, last = false) => ({
    width: 400,
    height: 110,
    title,
    x: { domain: [0, 1000] as const, title: last ? 'step' : undefined },
    y: { domain: [0, top] as const },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      polyline(
        steps.map(step => [x(step), y(of(step))] as const),
        { colour: last ? green : blue, width: 2 },
      ),
  })
  return plots(
    [
      curve(rate, 1.1e-3, 'learning rate: 100 steps of warm-up, then a cosine'),
      curve(decay, 1.05, 'decay of the average: min(0.999, (1 + n) / (10 + n))', true),
    ],
    1,
    'Learning rate and decay over steps',
  )
}

/** Mean over the last `window` steps. */
function smooth(losses: readonly number[], window = 25): Point[] {
  return losses.flatMap((_, i): Point[] => {
    if (i % 5 !== 4) return []
    const from = losses.slice(Math.max(0, i + 1 - window), i + 1)
    return [[i + 1, from.reduce((a, b) => a + b) / from.length]]
  })
}

type Series = readonly (readonly [name: string, colour: string, points: readonly Point[]])[]

/** A plot of losses over steps, logarithmic, cut off at `top`. */
function lossPlot(title: string, series: Series, [width, height]: Point, top = 2, bottom = 0.05) {
  const inside = (value: number) => Math.min(top, Math.max(bottom, value))
  return {
    width,
    height,
    title,
    x: { domain: [0, 600] as const },
    y: { domain: [bottom, top] as const, logarithmic: true },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      series
        .map(([, colour, points]) =>
          polyline(
            points.map(([step, loss]) => [x(step), y(inside(loss))] as const),
            { colour, width: 2 },
          ),
        )
        .join('\n'),
  }
}

/** The good run: loss of each step, its mean, and the held-out loss of raw and averaged weights. */
function goodRun(): string {
  const { losses, measured } = recorded().good
  const every = losses.map((loss, i): Point => [i + 1, loss])
  const held = (of: 'heldOut' | 'emaHeldOut') => measured.map((at): Point => [at.step, at[of]])
  const first = lossPlot('training loss', [['', grey, smooth(losses)]], [400, 150])
  const second = lossPlot(
    'held-out loss',
    [
      ['', red, held('heldOut')],
      ['', green, held('emaHeldOut')],
    ],
    [400, 150],
  )
  return plots(
    [
      {
        ...first,
        marks: (x, y) =>
          polyline(
            every.map(([step, loss]) => [x(step), y(Math.min(2, Math.max(0.05, loss)))] as const),
            { colour: blue, width: 1, opacity: 0.35 },
          ) +
          polyline(
            smooth(losses).map(([step, loss]) => [x(step), y(loss)] as const),
            { colour: blue, width: 2.2 },
          ) +
          legend(['every step, and the mean of 25'], [blue], [180, 14]),
      },
      {
        ...second,
        x: { ...second.x, title: 'step' },
        marks: (x, y) =>
          second.marks(x, y) + legend(['raw weights', 'averaged weights (EMA)'], [red, green], [200, 14]),
      },
    ],
    1,
    'A run that goes well',
  )
}

/** Eight runs that differ from a good one in one thing. */
function failures(): string {
  const runs = recorded()
  const mean = (name: keyof typeof variants) => smooth(runs[name].losses)
  const against = (title: string, name: keyof typeof variants, than: keyof typeof variants = 'good') =>
    lossPlot(
      title,
      [
        ['', grey, mean(than)],
        ['', red, mean(name)],
      ],
      [180, 100],
    )
  const few = runs['few pictures'].measured
  const overfit = lossPlot(
    '16 pictures: held out',
    [
      ['', grey, few.map((at): Point => [at.step, at.train])],
      ['', red, few.map((at): Point => [at.step, at.heldOut])],
    ],
    [180, 100],
  )
  return plots(
    [
      against('lr 0.1: too high', 'too high'),
      against('lr 0.00003: too low', 'too low'),
      against('lr 0.02 without warm-up', 'no warm-up', 'warm-up'),
      against('zeroGrad forgotten', 'gradients kept'),
      against('pixels in [0, 255]', 'bytes'),
      against('pictures in file order', 'in order'),
      overfit,
      against('moments lost at step 300', 'moments lost'),
    ],
    2,
    'Losses of runs that go wrong, in red, beside a good run',
  )
}

/** Weights of past values in an average of decay 0.9, 0.99 and 0.999. */
function memory(): string {
  const parts: string[] = []
  const decays = [0.8, 0.9, 0.95]
  const [left, base, width] = [30, 30, 9]
  for (const [k, decay] of decays.entries()) {
    const y = base + k * 80 + 54
    parts.push(
      text(
        [left, y - 60],
        `decay ${decay}: half of the weight is in the last ${Math.ceil(Math.log(0.5) / Math.log(decay))} steps`,
        { anchor: 'start' },
      ),
    )
    for (let age = 0; age < 48; age++) {
      const height = 250 * (1 - decay) * decay ** age
      const at = left + (47 - age) * width
      parts.push(
        `<rect x="${at}" y="${(y - height).toFixed(2)}" width="${width - 2}" height="${height.toFixed(2)}" fill="${green}" fill-opacity="0.7"/>`,
      )
    }
  }
  parts.push(
    text([left, 262], 'older', { anchor: 'start', size: 12 }),
    text([left + 48 * width, 262], 'now', { anchor: 'end', size: 12 }),
  )
  return figure([480, 270], 'Weights of past steps in moving averages', parts)
}

/** Figures of the chapter. */
export const training = {
  valley,
  'rate-and-decay': overSteps,
  'average-memory': memory,
  'run-good': goodRun,
  'runs-gone-wrong': failures,
}
