/**
 * Pictures scaled and cropped as ADM does it [ADM], to the byte: halved by box averaging while the shorter side is at
 * least twice what is wanted, then bicubic for the rest, then the central square. ADM has Pillow do it, so this is
 * Pillow's resampling of 8-bit channels [Pillow]: separable, rows first, filters as wide as the reduction, weights and
 * sums in whole numbers, each pass rounded to bytes, rows before columns as until Pillow 12.2. Only the square is computed.
 */

/** Red, green and blue, interleaved bytes (height, width, 3). */
export interface Pixels {
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
}

interface Filter {
  /** Half of its width, in pixels of the result. */
  readonly support: number
  readonly weight: (x: number) => number
}

const box: Filter = { support: 0.5, weight: x => (x > -0.5 && x <= 0.5 ? 1 : 0) }

/** Cubic convolution with a = −1/2. */
const bicubic: Filter = {
  support: 2,
  weight: signed => {
    const [a, x] = [-0.5, Math.abs(signed)]
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
  },
}

/** A part of a picture. */
interface Window {
  readonly left: number
  readonly top: number
  readonly width: number
  readonly height: number
}

/** The central square of a picture, its shorter side scaled to `size`: (size, size, 3). */
export function centerCrop(picture: Pixels, size: number): Pixels {
  let scaled = picture
  while (Math.min(scaled.width, scaled.height) >= 2 * size) {
    const [width, height] = [Math.floor(scaled.width / 2), Math.floor(scaled.height / 2)]
    scaled = resample(scaled, width, height, box, { left: 0, top: 0, width, height })
  }
  const scale = size / Math.min(scaled.width, scaled.height)
  const width = roundHalfEven(scaled.width * scale)
  const height = roundHalfEven(scaled.height * scale)
  const left = Math.floor((width - size) / 2)
  const top = Math.floor((height - size) / 2)
  return resample(scaled, width, height, bicubic, { left, top, width: size, height: size })
}

/** A window of the picture at another width and height; only what it needs is computed. */
function resample(picture: Pixels, width: number, height: number, filter: Filter, window: Window): Pixels {
  const columns = weightsOf(picture.width, width, filter, window.left, window.width)
  const rows = weightsOf(picture.height, height, filter, window.top, window.height)
  const top = rows.first[0]
  const end = rows.first[window.height - 1] + rows.count[window.height - 1]
  return resampleColumns(resampleRows(picture, top, end, columns), top, rows)
}

/** Weights are whole numbers of 2^−22, so that 8-bit sums fit in 32 bits. */
const precision = 22
const half = 1 << (precision - 1)

/** For every pixel of the result: the first pixel that it is made of, how many there are, and their weights. */
interface Weights {
  readonly first: Int32Array
  readonly count: Int32Array
  /** `most` for each pixel. */
  readonly values: Int32Array
  readonly most: number
}

/** The weights of pixels `start` to `start` + `length` where `from` pixels become `to`. */
function weightsOf(from: number, to: number, { support, weight }: Filter, start: number, length: number): Weights {
  const scale = from / to
  const stretch = Math.max(scale, 1)
  const reach = support * stretch
  const most = Math.ceil(reach) * 2 + 1
  const first = new Int32Array(length)
  const count = new Int32Array(length)
  const values = new Int32Array(length * most)
  for (let i = 0; i < length; i++) {
    const centre = (start + i + 0.5) * scale
    const begin = Math.max(Math.trunc(centre - reach + 0.5), 0)
    const end = Math.min(Math.trunc(centre + reach + 0.5), from)
    const inverse = 1 / stretch
    const exact = Array.from({ length: end - begin }, (_, k) => weight((k + begin - centre + 0.5) * inverse))
    const sum = exact.reduce((a, b) => a + b, 0)
    first[i] = begin
    count[i] = end - begin
    exact.forEach((value, k) => {
      const scaled = (sum === 0 ? value : value / sum) * 2 ** precision
      values[i * most + k] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
    })
  }
  return { first, count, values, most }
}

/** Rows `top` to `end` with other columns: (end − top, columns, 3). */
function resampleRows({ data, width }: Pixels, top: number, end: number, columns: Weights): Pixels {
  const { first, count, values, most } = columns
  const to = first.length
  const out = new Uint8Array((end - top) * to * 3)
  for (let y = top; y < end; y++)
    for (let x = 0; x < to; x++) {
      let [red, green, blue] = [half, half, half]
      let at = (y * width + first[x]) * 3
      for (let k = x * most, last = k + count[x]; k < last; k++, at += 3) {
        const weight = values[k]
        red += data[at] * weight
        green += data[at + 1] * weight
        blue += data[at + 2] * weight
      }
      const pixel = ((y - top) * to + x) * 3
      out[pixel] = toByte(red)
      out[pixel + 1] = toByte(green)
      out[pixel + 2] = toByte(blue)
    }
  return { data: out, width: to, height: end - top }
}

/** Other rows, of a picture whose first row is row `top`: (rows, width, 3). */
function resampleColumns({ data, width }: Pixels, top: number, rows: Weights): Pixels {
  const { first, count, values, most } = rows
  const row = 3 * width
  const to = first.length
  const out = new Uint8Array(to * row)
  const sums = new Int32Array(row)
  for (let y = 0; y < to; y++) {
    sums.fill(half)
    for (let k = 0; k < count[y]; k++) {
      const weight = values[y * most + k]
      const at = (first[y] - top + k) * row
      for (let i = 0; i < row; i++) sums[i] += data[at + i] * weight
    }
    for (let i = 0; i < row; i++) out[y * row + i] = toByte(sums[i])
  }
  return { data: out, width, height: to }
}

function toByte(sum: number): number {
  const byte = sum >> precision
  return byte < 0 ? 0 : byte > 255 ? 255 : byte
}

/** As Python's round. */
function roundHalfEven(x: number): number {
  const floor = Math.floor(x)
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x)
}
