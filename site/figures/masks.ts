/** Figures of the chapters on the DiT block and on masks: a face as tokens, the masks of three papers, what each loss sees. */

import { rng } from '../../core/index.ts'
import { openEmoji } from '../../data/index.ts'
import { type Masking, sampleMask, tokenMask } from '../../diffusion/index.ts'
import { ditPreset } from '../../models/index.ts'
import { arrow, blue, box, figure, green, grey, imageAt, orange, type Point, purple, rect, red, text } from './svg.ts'

const [face, S, P] = [51, 64, 8]
const tokens = S / P // 8 × 8

/** RGB bytes of the face, 64 pixels wide. */
async function bytes(): Promise<Uint8Array> {
  const data = await openEmoji('smileys', S)
  const planes = await data.pixels(face)
  return Uint8Array.from({ length: 3 * S * S }, (_, i) => planes[(i % 3) * S * S + Math.floor(i / 3)])
}

/** The face of `side`, with the hidden tokens under a grey veil, and outlines around tokens of a kind. */
async function masked(at: Point, side: number, hidden: ArrayLike<number>, outline?: (i: number) => string | null) {
  const cell = side / tokens
  const parts = [await imageAt(at, [side, side], await bytes(), [S, S])]
  for (let i = 0; i < tokens * tokens; i++) {
    const corner: Point = [at[0] + (i % tokens) * cell, at[1] + Math.floor(i / tokens) * cell]
    if (hidden[i] !== 0) parts.push(rect(corner, [cell, cell], { fill: grey, opacity: 1, width: 0 }))
    const colour = outline?.(i) ?? null
    parts.push(rect(corner, [cell, cell], { colour: colour ?? grey, width: colour === null ? 0.4 : 2 }))
  }
  return parts
}

const T = tokens * tokens
const grid = [tokens, tokens] as const

/** 1 for hidden tokens, a share of single ones or by one of MaskDM's ways, with seed 3. */
export function hiddenBy(way: number | Masking): Float64Array {
  const mask =
    typeof way === 'number' ? tokenMask(rng(3).uniformArray(T), [1, T], way) : sampleMask(way, 1, grid, rng(3))
  return Float64Array.from(mask.mask.dataSync())
}

const ways: readonly (readonly [string, number | Masking])[] = [
  ['MaskDiT: 50 %', 0.5],
  ['MDT: 30 %', 0.3],
  ['MaskDM, patches: 90 %', { way: 'patch', ratio: 0.9 }],
  ['MaskDM, blocks: 50 %', { way: 'block', ratio: 0.5, size: 2 }],
  ['MaskDM, crop of 4 × 4', { way: 'crop', size: 4 }],
]

/** Five masks over the face. */
async function maskGrid(): Promise<string> {
  const parts: string[] = []
  for (const [k, [title, way]] of ways.entries()) {
    const at: Point = [10 + (k % 3) * 156, 30 + Math.floor(k / 3) * 206]
    const hidden = hiddenBy(way)
    const kept = hidden.filter(h => h === 0).length
    parts.push(text([at[0] + 72, at[1] - 8], title, { size: 12.5 }))
    parts.push(...(await masked(at, 144, hidden)))
    parts.push(text([at[0] + 72, at[1] + 160], `${kept} of ${T} tokens kept`, { size: 12 }))
  }
  return figure([480, 412], 'Masks of three papers over a face', parts)
}

/** For each paper the tokens whose error enters a loss: green denoised, orange reconstructed, none in grey. */
async function losses(): Promise<string> {
  const rows: readonly (readonly [string, string, Float64Array, (hidden: boolean) => string | null])[] = [
    ['MaskDiT', 'visible: denoise; hidden: reconstruct', hiddenBy(0.5), hidden => (hidden ? orange : green)],
    ['MDT, masked pass', 'all: denoise, the hidden ones too', hiddenBy(0.3), () => green],
    [
      'MaskDM',
      'visible: denoise; hidden: nothing',
      hiddenBy({ way: 'block', ratio: 0.5, size: 2 }),
      hidden => (hidden ? null : green),
    ],
  ]
  const parts: string[] = []
  for (const [k, [title, words, hidden, colourOf]] of rows.entries()) {
    const y = 40 + k * 160
    parts.push(...(await masked([10, y], 148, hidden, i => colourOf(hidden[i] !== 0))))
    parts.push(text([176, y + 62], title, { anchor: 'start', bold: true, size: 15 }))
    parts.push(text([176, y + 86], words, { anchor: 'start' }))
  }
  parts.push(
    rect([10, 14], [12, 12], { colour: green, width: 2 }),
    text([28, 25], 'noise is predicted', { anchor: 'start', size: 12 }),
  )
  parts.push(
    rect([176, 14], [12, 12], { colour: orange, width: 2 }),
    text([194, 25], 'patch is rebuilt', { anchor: 'start', size: 12 }),
  )
  return figure([480, 520], 'Tokens that enter each loss', parts)
}

/** Six tokens through MDT's side-interpolator. */
function interpolator(): string {
  const hidden = [0, 1, 0, 0, 1, 0]
  const [left, step] = [60, 72]
  const x = (i: number) => left + i * step
  const cell = (i: number, y: number, label: string, colour: string, dashed = false) =>
    rect([x(i) - 26, y - 16], [52, 32], { fill: colour, colour, rounded: 4, dashed }) +
    text([x(i), y + 5], label, { colour })
  const parts: string[] = []
  const kept = hidden.flatMap((h, i) => (h === 0 ? [i] : []))
  kept.forEach((i, rank) => {
    const at = 1 + rank
    parts.push(cell(at, 30, `x${i + 1}`, blue))
    parts.push(
      arrow(
        [
          [x(at), 48],
          [x(i), 92],
        ],
        { colour: blue, width: 1 },
      ),
    )
  })
  parts.push(text([x(0) - 34, 35], 'encoder', { anchor: 'start', size: 12 }))
  hidden.forEach((h, i) => {
    parts.push(h === 0 ? cell(i, 110, `q${i + 1}`, blue) : cell(i, 110, 'mask', red, true))
    parts.push(
      arrow(
        [
          [x(i), 128],
          [x(i), 158],
        ],
        { width: 1 },
      ),
    )
    parts.push(
      arrow(
        [
          [x(i), 202],
          [x(i), h === 0 ? 226 : 282],
        ],
        { colour: h === 0 ? grey : red, width: h === 0 ? 1 : 2 },
      ),
    )
    parts.push(h === 0 ? cell(i, 300, `q${i + 1}`, blue) : cell(i, 300, `k̂${i + 1}`, red))
    if (h === 0)
      parts.push(
        arrow(
          [
            [x(i) + 20, 128],
            [x(i) + 20, 282],
          ],
          { colour: blue, dashed: true, width: 1.6 },
        ),
      )
  })
  parts.push(box([240, 180], [430, 40], ['one block: each token attends to all'], purple))
  parts.push(text([240, 340], 'kept tokens return to their places; positions are added', { size: 12.5 }))
  parts.push(text([240, 360], 'red: guessed from the others; blue, dashed: passed by', { size: 12.5 }))
  return figure([480, 372], 'The side-interpolator', parts)
}

/** The face, cut into patches, in a row of tokens. */
async function patches(): Promise<string> {
  const all = await bytes()
  const [Q, N] = [16, 4]
  const parts = [await imageAt([20, 30], [160, 160], all, [S, S])]
  for (let r = 0; r < N; r++)
    for (let c = 0; c < N; c++) {
      parts.push(rect([20 + c * 40, 30 + r * 40], [40, 40], { width: 1 }))
      const patch = new Uint8Array(3 * Q * Q)
      for (let y = 0; y < Q; y++)
        for (let x = 0; x < Q; x++)
          for (let k = 0; k < 3; k++) patch[3 * (y * Q + x) + k] = all[3 * ((r * Q + y) * S + c * Q + x) + k]
      const i = r * N + c
      const at: Point = [250 + (i % 8) * 28, 60 + Math.floor(i / 8) * 60]
      parts.push(await imageAt(at, [24, 24], patch, [Q, Q]))
      parts.push(text([at[0] + 12, at[1] + 38], String(i + 1), { size: 11 }))
    }
  parts.push(
    arrow([
      [192, 110],
      [236, 110],
    ]),
  )
  parts.push(
    text([100, 20], '(C, H, W) = (3, 64, 64)'),
    text([474, 40], '16 tokens of 3 · 16 · 16 = 768 values', { size: 12, anchor: 'end' }),
  )
  parts.push(text([360, 210], 'linear layer: 768 → D', { colour: blue }))
  return figure([480, 222], 'A face as sixteen tokens', parts)
}

/** A DiT block with the shapes of a preset: DiT-S/2 on latents of 32 × 32. */
function block(): string {
  const {
    hiddenSize: D,
    numHeads: h,
    patchSize,
    inputSize,
  } = ditPreset('S/2', { inputSize: 32, inChannels: 4, numClasses: 1000 })
  const tokens = (inputSize / patchSize) ** 2
  const [main, side] = [180, 400]
  const shape = (...n: number[]) => `(N, ${n.join(', ')})`
  const stages: readonly (readonly [string, string, string])[] = [
    ['adaLN: LN, ⊙ (1 + γ₁), + β₁', shape(tokens, D), 'γ₁, β₁'],
    [`qkv: linear ${D} → ${3 * D}`, shape(tokens, 3 * D), ''],
    [`attention: ${h} heads of ${D / h}`, shape(tokens, D), ''],
    [`projection: linear ${D} → ${D}`, shape(tokens, D), ''],
    ['gate α₁, + x', shape(tokens, D), 'α₁'],
    ['adaLN: LN, ⊙ (1 + γ₂), + β₂', shape(tokens, D), 'γ₂, β₂'],
    [`linear ${D} → ${4 * D}, GELU`, shape(tokens, 4 * D), ''],
    [`linear ${4 * D} → ${D}`, shape(tokens, D), ''],
    ['gate α₂, + x', shape(tokens, D), 'α₂'],
  ]
  const parts: string[] = [
    arrow(
      [
        [main, 36],
        [main, 80],
      ],
      { colour: blue },
    ),
    text([main + 10, 52], `x ${shape(tokens, D)}`, { anchor: 'start', colour: blue }),
  ]
  const y = (i: number) => 96 + i * 56
  stages.forEach(([title, out, vectors], i) => {
    const gate = title.startsWith('gate')
    parts.push(box([main, y(i)], [220, 30], [title], gate ? green : title.startsWith('adaLN') ? purple : grey))
    parts.push(
      arrow(
        [
          [main, y(i) + 15],
          [main, y(i) + 41],
        ],
        { colour: blue },
      ),
    )
    parts.push(text([main + 10, y(i) + 33], out, { anchor: 'start', colour: blue, size: 12 }))
    if (vectors !== '') {
      parts.push(
        arrow(
          [
            [side, y(i)],
            [main + 113, y(i)],
          ],
          { colour: purple },
        ),
      )
      parts.push(text([side - 8, y(i) - 6], vectors, { anchor: 'end', colour: purple, size: 12 }))
    }
  })
  for (const [from, to] of [
    [48, 4],
    [y(4) + 28, 8],
  ] as const)
    parts.push(
      arrow(
        [
          [main, from],
          [40, from],
          [40, y(to)],
          [main - 113, y(to)],
        ],
        { colour: blue, dashed: true },
      ),
    )
  parts.push(
    box([side, 46], [150, 34], [`linear ${D} → ${6 * D}`], purple),
    text([side, 18], `c (N, ${D})`, { colour: purple }),
  )
  parts.push(
    arrow(
      [
        [side, 63],
        [side, y(8)],
      ],
      { colour: purple },
    ),
  )
  return figure([480, y(9) - 6], 'A DiT block with its shapes', parts)
}

/** Figures of the two chapters. */
export const masks = {
  'face-as-tokens': patches,
  'dit-block': block,
  'mask-grid': maskGrid,
  'mask-losses': losses,
  'side-interpolator': interpolator,
}
