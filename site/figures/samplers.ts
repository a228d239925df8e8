/**
 * Figures of the chapter on samplers: paths of points in the plane under the exact denoiser of a small data set, the error of
 * each method by evaluations, and guidance between two classes.
 */

import { cpu, rng, type Tensor, tensor } from '../../core/index.ts'
import {
  type Denoiser,
  dpmSolverSteps,
  eulerSteps,
  heunSteps,
  powerCosineScale,
  type SigmaStep,
  sigmaSteps,
} from '../../diffusion/index.ts'
import { polyline } from '../../training/plot.ts'
import { blue, green, grey, legend, orange, type Point, plots, purple, red } from './svg.ts'

const f64 = { dtype: 'f64', backend: cpu } as const

/** Data: eight points of one class on an upper arc, eight of another on a lower one. */
export const data: readonly { readonly at: Point; readonly label: number }[] = Array.from({ length: 16 }, (_, i) => {
  const label = i < 8 ? 0 : 1
  const angle = (Math.PI * ((i % 8) + 0.5)) / 8 + (label === 0 ? 0 : Math.PI)
  const [x, y] = [Math.cos(angle), Math.sin(angle)]
  return { at: label === 0 ? [x - 0.35, y - 0.2] : [x + 0.35, y + 0.2], label }
})

/**
 * The best denoiser there is for `data`: the mean of its points, weighted by how likely each is to have become x,
 * softmax(−|x − y|² / 2σ²); of one class, or of all.
 */
export function exactDenoiser(label: number | null = null): Denoiser {
  const points = data.filter(each => label === null || each.label === label).map(({ at }) => at)
  return (x, sigma) => {
    const from = x.dataSync()
    const to = new Float64Array(from.length)
    for (let n = 0; n < sigma.length; n++) {
      const distances = points.map(
        ([a, b]) => ((from[2 * n] - a) ** 2 + (from[2 * n + 1] - b) ** 2) / (2 * sigma[n] ** 2),
      )
      const least = Math.min(...distances)
      const weights = distances.map(distance => Math.exp(least - distance))
      const total = weights.reduce((sum, w) => sum + w, 0)
      for (const axis of [0, 1])
        to[2 * n + axis] = points.reduce((sum, at, i) => sum + (weights[i] / total) * at[axis], 0)
    }
    return tensor(to, { ...f64, shape: x.shape })
  }
}

/** Denoisers, from more guidance than less: D_all + scale · (D_class − D_all). */
export function guided(label: number, scale: number): Denoiser {
  const [all, own] = [exactDenoiser(), exactDenoiser(label)]
  return (x, sigma) => {
    const [u, c] = [all(x, sigma).dataSync(), own(x, sigma).dataSync()]
    return tensor(
      Float64Array.from(u, (v, i) => v + scale * (c[i] - v)),
      { ...f64, shape: x.shape },
    )
  }
}

type Loop = (denoiser: Denoiser, x: Tensor, sigmas: Float64Array) => Generator<SigmaStep, void>

const [sigmaMax, sigmaMin] = [2, 0.02]

/** Noise levels of a sampler with `steps` steps, from 2 to 0. */
export function levels(steps: number): Float64Array {
  return sigmaSteps(steps, { sigmaMin, sigmaMax })
}

/** Starts: N points of noise. */
export function starts(N: number, seed: number): Tensor {
  return tensor(
    rng(seed)
      .normalArray(2 * N)
      .map(v => sigmaMax * v),
    { ...f64, shape: [N, 2] },
  )
}

/** Starts on a circle whose radius is the usual distance of noise from 0 in the plane, √2 σ. */
export function ring(N: number): Tensor {
  const angles = Array.from({ length: N }, (_, n) => (2 * Math.PI * (n + 0.3)) / N)
  return tensor(
    angles.map(angle => [Math.cos(angle), Math.sin(angle)].map(v => Math.SQRT2 * sigmaMax * v)),
    f64,
  )
}

/** Positions after every step of a loop, for every point: [step][n]. */
export function pathsOf(loop: Loop, denoiser: Denoiser, x: Tensor, steps: number): Point[][] {
  const at = (t: Tensor): Point[] => {
    const values = t.dataSync()
    return Array.from({ length: values.length / 2 }, (_, n) => [values[2 * n], values[2 * n + 1]])
  }
  const path = [at(x)]
  for (const step of loop(denoiser, x, levels(steps))) path.push(at(step.x))
  return path
}

type To = (v: number) => number

/** A plane with the data, and paths over it. */
function plane(title: string, reach: number, width: number, marks: (x: To, y: To) => string) {
  return {
    width,
    height: width,
    title,
    x: { domain: [-reach, reach] as const },
    y: { domain: [-reach, reach] as const },
    marks: (x: To, y: To) =>
      data
        .map(
          ({ at, label }) =>
            `<circle cx="${x(at[0]).toFixed(1)}" cy="${y(at[1]).toFixed(1)}" r="3.4" fill="${label === 0 ? blue : orange}"/>`,
        )
        .join('') + marks(x, y),
  }
}

/** Lines of chosen points through their positions, with a dot at each. */
function lines(path: readonly Point[][], colour: string, x: To, y: To, dots = true): string {
  return path[0]
    .map((_, n) => {
      const points = path.map(at => [x(at[n][0]), y(at[n][1])] as const)
      const marks = points.map(
        ([a, b]) => `<circle cx="${a.toFixed(1)}" cy="${b.toFixed(1)}" r="1.9" fill="${colour}"/>`,
      )
      return polyline(points, { colour, width: 1.3, opacity: 0.9 }) + (dots ? marks.join('') : '')
    })
    .join('\n')
}

/** Nine points by Euler and by Heun in few steps, over their exact paths. */
function trajectories(): string {
  const x = ring(9)
  const exact = pathsOf(heunSteps, exactDenoiser(), x, 200)
  const plotOf = (title: string, loop: Loop, steps: number, colour: string) =>
    plane(
      title,
      3.2,
      195,
      (a, b) => lines(exact, grey, a, b, false) + lines(pathsOf(loop, exactDenoiser(), x, steps), colour, a, b),
    )
  return plots(
    [plotOf('Euler: 9 evaluations', eulerSteps, 9, red), plotOf('Heun: 9 evaluations', heunSteps, 5, green)],
    2,
    'Paths of nine points from noise to data',
  )
}

/** Mean distance from the end of the exact path, over evaluations of the network. */
function orders(): string {
  const x = starts(40, 2)
  const ends = (path: readonly Point[][]) => path.at(-2)! // at σ_min: the last step to 0 is the denoiser's answer itself
  const exact = ends(pathsOf(heunSteps, exactDenoiser(), x, 2000))
  const counts = [5, 8, 12, 20, 32, 50, 80, 128]
  const methods: readonly (readonly [string, Loop, string, (steps: number) => number])[] = [
    ['Euler', eulerSteps, red, steps => steps],
    ['Heun', heunSteps, green, steps => 2 * steps - 1],
    ['DPM-Solver++(2M)', dpmSolverSteps, purple, steps => steps],
  ]
  const curves = methods.map(([, loop, , evaluations]) =>
    counts.map((steps): Point => {
      const got = ends(pathsOf(loop, exactDenoiser(), x, steps))
      const distances = got.map((at, n) => Math.hypot(at[0] - exact[n][0], at[1] - exact[n][1]))
      return [evaluations(steps), distances.sort((a, b) => a - b)[Math.floor(distances.length / 2)]]
    }),
  )
  const plot = {
    width: 380,
    height: 190,
    x: { domain: [4, 300] as const, logarithmic: true, title: 'evaluations of the network' },
    y: { domain: [1e-5, 1] as const, logarithmic: true, title: 'distance from the exact end' },
    marks: (a: To, b: To) =>
      [
        ...curves.map((points, i) =>
          polyline(
            points.map(([n, error]) => [a(n), b(Math.max(1e-5, error))] as const),
            { colour: methods[i][2], width: 2 },
          ),
        ),
        legend(
          methods.map(([name]) => name),
          methods.map(([, , colour]) => colour),
          [10, 140],
        ),
      ].join('\n'),
  }
  return plots([plot], 1, 'Error of three samplers over evaluations')
}

/** Twelve points guided to the class of the upper arc, at scales 1 and 3. */
function guidance(): string {
  const x = ring(12)
  const plotOf = (scale: number) =>
    plane(`guidance ${scale}`, 3.2, 195, (a, b) =>
      lines(pathsOf(heunSteps, guided(0, scale), x, 30), purple, a, b, false),
    )
  return plots([plotOf(1), plotOf(3)], 2, 'Paths with and without guidance')
}

/** MDT's scale over timesteps. */
function powerCosine(): string {
  const steps = Array.from({ length: 101 }, (_, i) => 10 * i)
  const powers: readonly (readonly [number, string])[] = [
    [0.5, orange],
    [1, blue],
    [4, green],
  ]
  const plot = {
    width: 400,
    height: 140,
    x: { domain: [0, 1000] as const, title: 'timestep t: sampling runs from right to left' },
    y: { domain: [0, 4] as const, title: 'scale' },
    marks: (a: To, b: To) =>
      [
        ...powers.map(([power, colour]) =>
          polyline(
            steps.map(t => [a(t), b(powerCosineScale(3.8, power, t))] as const),
            { colour, width: 2 },
          ),
        ),
        legend(
          powers.map(([power]) => `power ${power}`),
          powers.map(([, colour]) => colour),
          [310, 14],
        ),
      ].join('\n'),
  }
  return plots([plot], 1, 'Power-cosine guidance over timesteps')
}

/** Figures of the chapter. */
export const samplers = {
  trajectories,
  'sampler-orders': orders,
  'guidance-paths': guidance,
  'guidance-scale': powerCosine,
}
