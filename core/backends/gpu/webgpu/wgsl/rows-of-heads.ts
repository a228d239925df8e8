/**
 * Layout that the attention shaders share. A workgroup owns 64 rows (queries or keys) of one head. A row belongs to one
 * thread, or to 2 or 4 threads that hold parts of its d elements in registers. Tiles of the other side pass through
 * workgroup memory. Vectors are split into fours, the last padded with zeros.
 */

import { ceilDiv } from '../../../../shape.ts'

/** Rows that a workgroup owns. */
export const rows = 64
/** Bytes of workgroup memory on every device. */
const memory = 16_384

/** Returns a line of WGSL for each i < n. */
export function each(n: number, line: (i: number) => string): string {
  return Array.from({ length: n }, (_, i) => line(i)).join('\n')
}

/** Layout of rows of d elements over threads. */
export interface Spread {
  readonly d: number
  /** Threads of a row, and fours of each. */
  readonly lanes: number
  readonly fours: number
  /** Rows of the other side in a group, and in a tile. */
  readonly group: number
  readonly tile: number
  /** True if all rows begin at a multiple of four. */
  readonly wide: boolean
  readonly threads: number
}

/**
 * Returns the layout for heads of d elements in a shader whose threads hold at most `most` fours of a vector and
 * compute `products` products with each row of the other side. Null if d is too large.
 */
export function spreadOf(d: number, most: number, products: number, group: number): Spread | null {
  const all = ceilDiv(d, 4)
  const lanes = [1, 2, 4].find(n => ceilDiv(all, n) <= most) ?? 4
  const fours = ceilDiv(all, lanes)
  const shared = lanes === 1 ? 0 : 4 * products * group * lanes * rows
  const room = Math.floor((memory - shared) / (2 * 16 * fours * lanes))
  const tile = Math.min(rows, Math.floor(room / group) * group)
  return tile === 0 ? null : { d, lanes, fours, group, tile, wide: d % 4 === 0, threads: rows * lanes }
}

/** Returns the parts of a shader key that depend on the layout. */
export function variantOf({ d, lanes, group }: Spread): (string | number)[] {
  return [d, lanes, group]
}

export function elementOf({ wide }: Spread): 'f32' | 'vec4f' {
  return wide ? 'vec4f' : 'f32'
}

/** WGSL function `<buffer>Four(at, c, inside)`: elements 4c … 4c + 3 of the vector at `at`, zeros past its end. */
export function fourOf(buffer: string, { d, wide }: Spread): string {
  const read = wide
    ? `${buffer}[at / 4u + c]`
    : `vec4f(${[0, 1, 2, 3].map(q => `select(0.0, ${buffer}[at + min(4u * c + ${q}u, ${d - 1}u)], 4u * c + ${q}u < ${d}u)`).join(', ')})`
  return `fn ${buffer}Four(at: u32, c: u32, inside: bool) -> vec4f {
  if (!inside || c >= ${ceilDiv(d, 4)}u) { return vec4f(); }
  return ${read};
}`
}

/** Workgroup memory: a tile of two vectors per row, and partial products of lanes. */
export function memoryOf({ tile, fours, lanes, group }: Spread, products: number): string {
  const tiles = ['one', 'two'].map(name => `var<workgroup> ${name}: array<vec4f, ${tile * fours * lanes}>;`)
  if (lanes > 1) tiles.push(`var<workgroup> parts: array<f32, ${products * group * lanes * rows}>;`)
  return tiles.join('\n')
}

/** WGSL: row and lane of a thread. Lanes of a row are 64 apart, so that neighbours read the same part of a tile. */
export const place = `
  let own = thread % ${rows}u;
  let lane = thread / ${rows}u;`

/** WGSL: loads the vector at `at`, times `factor`, as `<name>0`, `<name>1`, … */
export function hold(name: string, buffer: string, at: string, inside: string, { fours }: Spread, factor = ''): string {
  return each(
    fours,
    w => `  let ${name}${w} = ${buffer}Four(${at}, lane * ${fours}u + ${w}u, ${inside})${factor && ` * ${factor}`};`,
  )
}

/** WGSL: declares `<name>0`, … as zeros. */
export function zeros(name: string, { fours }: Spread): string {
  return each(fours, w => `  var ${name}${w} = vec4f();`)
}

/** WGSL: fills the tile with rows from `first` on; `one` and `two` are the offsets of vectors of `row`. */
export function fill(
  first: string,
  one: readonly [buffer: string, at: string],
  two: readonly [buffer: string, at: string],
  { tile, fours, lanes, threads }: Spread,
): string {
  const width = fours * lanes
  return `    for (var u = thread; u < ${tile * width}u; u += ${threads}u) {
      let row = ${first} + u / ${width}u;
      let c = u % ${width}u;
      one[u] = ${one[0]}Four(${one[1]}, c, row < params.T);
      two[u] = ${two[0]}Four(${two[1]}, c, row < params.T);
    }
    workgroupBarrier();`
}

/** WGSL: the thread's four number w of row `r` + g of a tile. */
function fourAt(tile: string, g: number, w: number, { fours, lanes }: Spread): string {
  return `${tile}[(r + ${g}u) * ${fours * lanes}u + lane * ${fours}u + ${w}u]`
}

/** WGSL: products of vectors with a group of rows of the tile, from row `r`: `<result>0`, `<result>1`, … */
export function dots(
  spread: Spread,
  products: readonly (readonly [held: string, tile: string, result: string])[],
): string {
  const { fours, lanes, group } = spread
  const own = products.flatMap(([held, tile, result]) => [
    each(group, g => `      var ${result}Four${g} = ${held}0 * ${fourAt(tile, g, 0, spread)};`),
    each(fours - 1, w =>
      each(group, g => `      ${result}Four${g} += ${held}${w + 1} * ${fourAt(tile, g, w + 1, spread)};`),
    ),
    each(group, g => `      var ${result}${g} = dot(${result}Four${g}, vec4f(1.0));`),
  ])
  if (lanes === 1) return own.filter(Boolean).join('\n')
  const slot = (p: number, g: number, lane: string) =>
    `parts[(${p * group + g}u * ${lanes}u + ${lane}) * ${rows}u + own]`
  const given = products.map(([, , result], p) => each(group, g => `      ${slot(p, g, 'lane')} = ${result}${g};`))
  const taken = products.map(([, , result], p) =>
    each(
      group,
      g => `      ${result}${g} = ${Array.from({ length: lanes }, (_, l) => slot(p, g, `${l}u`)).join(' + ')};`,
    ),
  )
  return [...own, ...given, '      workgroupBarrier();', ...taken, '      workgroupBarrier();']
    .filter(Boolean)
    .join('\n')
}

/** WGSL: multiplies `<name>0`, … by `keep`, then adds a group of rows of a tile, each times its `factor`. */
export function addRows(name: string, tile: string, factor: string, spread: Spread, keep = ''): string {
  const { fours, group } = spread
  return each(fours, w => {
    const terms = Array.from({ length: group }, (_, g) => `${factor}${g} * ${fourAt(tile, g, w, spread)}`)
    return `      ${name}${w} = ${name}${w}${keep && ` * ${keep}`} + ${terms.join(' + ')};`
  })
}

/** WGSL: stores `<name>0`, … times `factor` as the vector at `at` of `buffer`. */
export function put(name: string, buffer: string, at: string, factor: string, { d, fours, wide }: Spread): string {
  const all = ceilDiv(d, 4)
  return each(fours, w => {
    const c = `(lane * ${fours}u + ${w}u)`
    const value = `${name}${w} * ${factor}`
    if (wide) return `    if (${c} < ${all}u) { ${buffer}[${at} / 4u + ${c}] = ${value}; }`
    return each(
      4,
      q => `    if (4u * ${c} + ${q}u < ${d}u) { ${buffer}[${at} + 4u * ${c} + ${q}u] = (${value}).${'xyzw'[q]}; }`,
    )
  })
}
