/**
 * Writes the pictures of the front page from a sampling trajectory of the site's model: docs/pictures/denoising.webp, which
 * plays once, denoising-last.webp, its last frame, and docs/public/open-graph.png, shown by pages that link here. Run: npx tsx
 * site/denoising.ts. Needs Node.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { main } from '../cli/main.ts'
import { ready, type Tensor } from '../core/index.ts'
import { openEmoji } from '../data/emoji.ts'
import { decodeSafetensors } from '../io/safetensors.ts'
import { mdt } from '../models/index.ts'
import { root } from './regions.ts'

const [columns, rows] = [8, 3]
const steps = 25
/** Pixels of the page for each pixel of a picture. */
const scale = 5
/** Milliseconds of a frame; the whole takes less than the five seconds after which motion needs a way to stop it. */
const delay = 140

/** Pictures of a class that is shown. */
const fewest = 10

const size = 16
const cell = size + 1
const [width, height] = [columns * cell * scale, rows * cell * scale]

/** Pictures x (N, 3, S, S) in [−1, 1] in a grid, RGB bytes, white between them. */
async function frameOf(x: Tensor): Promise<Uint8Array> {
  const planes = await x.data()
  const frame = new Uint8Array(3 * width * height).fill(255)
  for (let y = 0; y < height; y++)
    for (let at = 0; at < width; at++) {
      const [row, column] = [Math.floor(y / scale), Math.floor(at / scale)]
      const [i, j] = [row % cell, column % cell]
      if (i === size || j === size) continue
      const n = Math.floor(row / cell) * columns + Math.floor(column / cell)
      for (let c = 0; c < 3; c++) {
        const value = planes[((n * 3 + c) * size + i) * size + j]
        frame[3 * (y * width + at) + c] = Math.min(255, Math.max(0, Math.round((value + 1) * 127.5)))
      }
    }
  return frame
}

await main(async () => {
  const backend = await ready()
  const { classes, label, length } = await openEmoji('smileys', size)
  const counts = classes.map(() => 0)
  for (let i = 0; i < length; i++) counts[label(i)]++
  // Faces look alike across classes and are learned best; classes with few pictures are learned badly.
  const common = classes.map((_, i) => i).filter(i => /^face-/.test(classes[i]) && counts[i] >= fewest)
  const model = mdt.make(mdt.options('tiny', { inputSize: size, inChannels: 3, numClasses: classes.length }), {
    rng: null,
  })
  const file = 'docs/public/playground/mdt-tiny.safetensors'
  model.loadStateDict(decodeSafetensors(readFileSync(join(root, file)), file).tensors)

  const count = columns * rows
  const frames: Uint8Array[] = []
  for (const { x } of mdt.generation.generate(model, {
    seeds: Array.from({ length: count }, (_, i) => i),
    labels: Array.from({ length: count }, (_, i) => common[i % common.length]),
    sampler: 'ddim',
    steps,
    guidance: { scale: 1.5 },
    clip: true,
  }))
    frames.push(await frameOf(x))
  model.dispose()
  backend.dispose()

  const raw = { width, height: height * frames.length, channels: 3, pageHeight: height } as const
  const options = { lossless: true, effort: 6 } as const
  await sharp(Buffer.concat(frames), { raw })
    .webp({ ...options, loop: 1, delay: frames.map(() => delay) })
    .toFile(join(root, 'docs/pictures/denoising.webp'))
  const last = sharp(frames[frames.length - 1], { raw: { width, height, channels: 3 } })
  await last.clone().webp(options).toFile(join(root, 'docs/pictures/denoising-last.webp'))
  await openGraph(await last.png().toBuffer())
})

/** 1200 × 630 pixels, the size that previews of links expect. */
async function openGraph(smileys: Buffer): Promise<void> {
  const words = `<svg width="1200" height="630" xmlns="http://www.w3.org/2000/svg" font-family="DejaVu Sans, Arial, sans-serif">
    <text x="70" y="120" font-size="72" font-weight="bold" fill="#1b1b1f">demask</text>
    <text x="70" y="185" font-size="34" fill="#3c3c43">From one multiplication to a sampled picture:</text>
    <text x="70" y="233" font-size="34" fill="#3c3c43">tensors, autodiff and masked diffusion transformers.</text></svg>`
  await sharp({ create: { width: 1200, height: 630, channels: 3, background: '#ffffff' } })
    .composite([
      { input: Buffer.from(words), left: 0, top: 0 },
      {
        input: await sharp(smileys)
          .resize({ width: 1060, kernel: 'nearest' })
          .extract({ left: 0, top: 0, width: 1060, height: 330 })
          .toBuffer(),
        left: 70,
        top: 280,
      },
    ])
    .png({ palette: true })
    .toFile(join(root, 'docs/public/open-graph.png'))
}
