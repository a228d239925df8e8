/**
 * Figures about noise: a face that becomes noise and comes back, the curves of the schedules, and the error of a trained
 * model by timestep. For the chapters 'A picture becomes noise, and back' and 'Schedules'.
 */

import { clamp, noGrad, rng, scope, type Tensor, tensor } from '../../core/index.ts'
import {
  cosineBetas,
  ddimSteps,
  type GaussianDiffusion,
  gaussianDiffusion,
  linearBetas,
  pMeanVariance,
  preconditioning,
  qSample,
  respace,
  shiftedCosineBetas,
  sigmaSteps,
  spaceTimesteps,
} from '../../diffusion/index.ts'
import { type MDT, timestepDiffusion } from '../../models/index.ts'
import { polyline } from '../../training/plot.ts'
import { blue, figure, green, legend, orange, picture, plots, purple, red, text } from './svg.ts'
import { batchOf, type Trained, trained } from './trained.ts'

/** The face of the figures: a smile with sunglasses. */
const face = 51
const steps = [0, 100, 200, 300, 500, 700, 999] as const
const side = 58

/** A row of pictures with a text above each. */
async function row(y: number, tensors: readonly Tensor[], titles: readonly string[], left = 40): Promise<string[]> {
  const parts: string[] = []
  for (const [i, x] of tensors.entries()) {
    const S = x.shape[3]
    const at = left + i * (side + 4)
    parts.push(await picture([at, y], side, await x.data(), S))
    parts.push(text([at + side / 2, y - 6], titles[i] ?? '', { size: 12 }))
  }
  return parts
}

/** The clean face with the noise of seed 1 at timestep t, clipped where it is shown. */
function noisedAt({ backend }: Trained, d: GaussianDiffusion, x0: Tensor, t: number): Tensor {
  return scope(() => qSample(d, x0, [t], rng(1).normal(x0.shape, { backend })))
}

/** The picture that the model sees in x at timestep t, (1, 3, S, S). */
function guess(model: MDT, d: GaussianDiffusion, x: Tensor, t: number, label: number): Tensor {
  return noGrad(() => scope(() => pMeanVariance(d, model.forward(x, [t], [label]), x, [t], { clip: true }).predXStart))
}

/** A face at seven timesteps. */
async function toNoise(): Promise<string> {
  const all = await trained()
  const d = timestepDiffusion(all.model.options)
  const x0 = await batchOf(all, face)
  const noised = steps.map(t => noisedAt(all, d, x0, t))
  const titles = steps.map(t => (t === 0 ? 't = 0' : String(t)))
  const parts = await row(24, noised, titles, 20)
  return figure([480, 90], 'A face at timesteps 0 to 999', parts)
}

/** The same, and under each the model's guess. */
async function guesses(): Promise<string> {
  const all = await trained()
  const d = timestepDiffusion(all.model.options)
  const x0 = await batchOf(all, face)
  const noised = steps.map(t => noisedAt(all, d, x0, t))
  const seen = noised.map((x, i) => guess(all.model, d, x, steps[i], all.data.label(face)))
  const titles = steps.map(t => (t === 0 ? 't = 0' : String(t)))
  return figure([480, 172], 'Noised faces, and what the model sees in each', [
    ...(await row(24, noised, titles, 40)),
    ...(await row(106, seen, [], 40)),
    text([20, 57], 'x', { italic: true, size: 15 }),
    text([20, 139], 'x̂₀', { italic: true, size: 15 }),
  ])
}

/** From pure noise to a face in 20 steps of DDIM: x and the guess, at some of them. */
async function wayBack(): Promise<string> {
  const { model, backend } = await trained()
  const d = respace(timestepDiffusion(model.options), spaceTimesteps(1000, '20'))
  const shown = [0, 3, 6, 9, 12, 16, 19]
  const xT = rng(7).normal([1, 3, 16, 16], { backend })
  const network = (x: Tensor, t: ArrayLike<number>) => model.forward(x, t, [11]) // smiling
  const parts: string[] = [
    text([20, 57], 'x', { italic: true, size: 15 }),
    text([20, 139], 'x̂₀', { italic: true, size: 15 }),
  ]
  for (const { step, t, x, predXStart } of ddimSteps(d, network, xT, { clip: true })) {
    const i = shown.indexOf(step)
    if (i < 0) continue
    const left = 40 + i * (side + 4)
    parts.push(text([left + side / 2, 18], i === 0 ? `t = ${t}` : String(t), { size: 12 }))
    parts.push(await picture([left, 24], side, await x.data(), 16))
    parts.push(await picture([left, 106], side, await predXStart.data(), 16))
  }
  return figure([480, 172], 'From noise to a face in twenty steps', parts)
}

const T = 1000
const schedules: readonly (readonly [string, Float64Array, string])[] = [
  ['linear', linearBetas(T), blue],
  ['cosine', cosineBetas(T), orange],
  ['cosine shifted to 16 px', shiftedCosineBetas(T, 16), green],
]

/** ᾱ, the signal-to-noise ratio and σ over t. */
function curves(): string {
  const diffusions = schedules.map(([, betas]) => gaussianDiffusion({ betas }))
  const at = Array.from({ length: 101 }, (_, i) => Math.min(999, 10 * i))
  const plotOf = (title: string, of: (a: number) => number, domain: readonly [number, number], last = false) => ({
    width: 400,
    height: 150,
    title,
    x: { domain: [0, 1000] as const, title: last ? 'timestep t' : undefined },
    y: { domain, logarithmic: domain[0] > 0 },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      [
        ...diffusions.map(({ alphaBar }, i) => {
          const inside = at.filter(t => of(alphaBar[t]) >= domain[0] && of(alphaBar[t]) <= domain[1])
          return polyline(
            inside.map(t => [x(t), y(of(alphaBar[t]))] as const),
            { colour: schedules[i][2], width: 2 },
          )
        }),
        domain[0] === 0
          ? legend(
              schedules.map(([name]) => name),
              schedules.map(([, , colour]) => colour),
              [8, 92],
            )
          : '',
      ].join('\n'),
  })
  return plots(
    [
      plotOf('ᾱ: share of the signal’s power', a => a, [0, 1]),
      plotOf('SNR = ᾱ / (1 − ᾱ)', a => a / (1 - a), [1e-4, 1e4]),
      plotOf('σ = √((1 − ᾱ) / ᾱ), EDM’s noise level', a => Math.sqrt((1 - a) / a), [1e-2, 1e2], true),
    ],
    1,
    'Three schedules: signal, signal-to-noise ratio, noise level',
  )
}

/** One face under each schedule, at equal shares of the way. */
async function strips(): Promise<string> {
  const all = await trained()
  const x0 = await batchOf(all, face)
  const at = [0, 150, 300, 450, 600, 750, 900]
  const parts: string[] = []
  for (const [k, [name, betas, colour]] of schedules.entries()) {
    const d = gaussianDiffusion({ betas })
    const y = 40 + k * 100
    parts.push(text([20, y - 22], name, { colour, anchor: 'start', bold: true, size: 13 }))
    const titles = at.map(t => `ᾱ ${d.alphaBar[t].toFixed(2)}`)
    parts.push(
      ...(await row(
        y,
        at.map(t => noisedAt(all, d, x0, t)),
        titles,
        20,
      )),
    )
  }
  // EDM's levels have no ᾱ: x₀ + σ n, scaled to one standard deviation at every level.
  const sigmas = [...sigmaSteps(7)].slice(0, 7).reverse()
  const y = 40 + 3 * 100
  parts.push(
    text([20, y - 22], 'EDM: x₀ + σ n, scaled to one standard deviation', {
      colour: purple,
      anchor: 'start',
      bold: true,
    }),
  )
  const pictures = await Promise.all(
    sigmas.map(async sigma => {
      const [clean, n] = [await x0.data(), await rng(1).normal(x0.shape, { backend: all.backend }).data()]
      const scale = 0.5 * preconditioning(sigma).in // of standard deviation ½, as pictures are
      const values = Float32Array.from(n, (z, i) => scale * (clean[i] + sigma * z))
      return clamp(tensor(values, { shape: x0.shape, backend: all.backend }), -1, 1)
    }),
  )
  parts.push(
    ...(await row(
      y,
      pictures,
      sigmas.map(sigma => `σ ${Number(sigma.toPrecision(2))}`),
      20,
    )),
  )
  return figure([480, 406], 'One face under four schedules', parts)
}

/** Error of the predicted noise and of the guessed picture by timestep, over eight pictures. */
async function errors(): Promise<string> {
  const all = await trained()
  const { model, data, backend } = all
  const d = timestepDiffusion(model.options)
  const at = [10, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 990]
  const noise: number[] = []
  const guessed: number[] = []
  for (const t of at) {
    let [a, b, count] = [0, 0, 0]
    for (let i = 0; i < 8; i++) {
      const x0 = await batchOf(all, 20 * i)
      const n = rng(100 + i).normal(x0.shape, { backend })
      const [predicted, x̂0] = noGrad(() =>
        scope(() => {
          const x = qSample(d, x0, [t], n)
          const output = model.forward(x, [t], [data.label(20 * i)])
          return [output, pMeanVariance(d, output, x, [t], { clip: true }).predXStart] as const
        }),
      )
      const [eps, z, clean, seen] = await Promise.all([predicted, n, x0, x̂0].map(x => x.data()))
      for (let j = 0; j < z.length; j++) {
        a += (eps[j] - z[j]) ** 2
        b += (seen[j] - clean[j]) ** 2
        count++
      }
      for (const x of [x0, n, predicted, x̂0]) x.dispose()
    }
    noise.push(a / count)
    guessed.push(b / count)
  }
  return plots(
    [
      {
        width: 400,
        height: 190,
        title: 'mean squared error, by timestep',
        x: { domain: [0, 1000], title: 'timestep t' },
        y: { domain: [1e-4, 1], logarithmic: true },
        marks: (x, y) =>
          [
            polyline(
              at.map((t, i) => [x(t), y(noise[i])] as const),
              { colour: blue, width: 2 },
            ),
            polyline(
              at.map((t, i) => [x(t), y(guessed[i])] as const),
              { colour: red, width: 2 },
            ),
            legend(['of the noise ε', 'of the picture x̂₀'], [blue, red], [120, 150]),
          ].join('\n'),
      },
    ],
    1,
    'Errors of a trained model by timestep',
  )
}

/** c_skip, and c_out relative to σ_d, over the noise level. */
function preconditioningCurves(): string {
  const sigmas = Array.from({ length: 81 }, (_, i) => 10 ** (-2 + (4 * i) / 80))
  const sigmaData = 0.5
  const lines: readonly (readonly [string, string, (sigma: number) => number])[] = [
    ['cₛₖᵢₚ: share of x in the answer', blue, sigma => preconditioning(sigma, sigmaData).skip],
    ['cₒᵤₜ / σ_d: size of F’s part', orange, sigma => preconditioning(sigma, sigmaData).out / sigmaData],
  ]
  const plot = {
    width: 400,
    height: 150,
    x: { domain: [0.01, 100] as const, logarithmic: true, title: 'noise level σ, for σ_d = 0.5' },
    y: { domain: [0, 1] as const },
    marks: (x: (v: number) => number, y: (v: number) => number) =>
      [
        ...lines.map(([, colour, of]) =>
          polyline(
            sigmas.map(sigma => [x(sigma), y(of(sigma))] as const),
            { colour, width: 2 },
          ),
        ),
        legend(
          lines.map(([name]) => name),
          lines.map(([, colour]) => colour),
          [190, 66],
        ),
      ].join('\n'),
  }
  return plots([plot], 1, 'Preconditioning over the noise level')
}

/** Figures of the two chapters. */
export const noise = {
  'to-noise': toNoise,
  guesses,
  'way-back': wayBack,
  'schedule-curves': curves,
  'schedule-strips': strips,
  'error-by-timestep': errors,
  preconditioning: preconditioningCurves,
}
