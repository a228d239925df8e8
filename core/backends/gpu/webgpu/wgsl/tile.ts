/**
 * Shader of matrix products. A workgroup computes a tile of `rows` × `columns` results, a thread `down` × `across` of
 * them in registers. k advances by `depth`: each round multiplies the slabs of both operands that the last round left
 * in workgroup memory, while the next slabs are loaded into registers and then stored to the other half of that memory.
 * One barrier per round suffices. Slabs are k-major and read four elements at once. Results have names, not places in
 * an array, which compilers would not keep in registers.
 *
 * Reads past an edge of the tile are clamped to the last row or column, whose results are not stored; reads past the
 * end of k give 0. The inner loop has no edge cases.
 */

/** Rows and columns of results of a workgroup, and of a thread (`down`, `across`, multiples of 4). */
export interface Tile {
  readonly name: string
  readonly rows: number
  readonly columns: number
  readonly depth: number
  readonly down: number
  readonly across: number
}

/** Memory layout of an operand: contiguous along k or along the tile; `wide` if read in aligned fours. */
export interface Operand {
  readonly along: 'k' | 'tile'
  readonly wide: boolean
}

/** A leading axis: its length, and elements from one matrix to the next, 0 where broadcast. */
export interface Axis {
  readonly size: number
  readonly stepA: number
  readonly stepB: number
}

interface Multiply {
  readonly tile: Tile
  readonly a: Operand
  readonly b: Operand
  /** Number of leading axes. */
  readonly axes: number
  readonly bias: boolean
  /** True if rows of the result are a multiple of four long. */
  readonly wideOut: boolean
  /** True if the rows of a are also summed over k, into `sums`. */
  readonly rowSums: boolean
}

export function threadsOf({ rows, columns, down, across }: Tile): number {
  return (rows / down) * (columns / across)
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i)
const lines = (parts: readonly string[]) => parts.join('\n')

/** WGSL of the product; matmul.ts has the parameters. */
export function multiply({ tile, a, b, axes, bias, wideOut, rowSums }: Multiply) {
  const { rows, columns, depth, down, across } = tile
  const threads = threadsOf(tile)
  const [perRow, perColumn] = [columns / across, rows / down]
  const slabA = new Slab('a', a, 'M', rows, depth, threads)
  const slabB = new Slab('b', b, 'N', columns, depth, threads)
  const cells = range(down).flatMap(i => range(across / 4).map(j => [i, j]))

  const products = [
    ...range(down / 4).map(i => `      let a${i} = ${slabA.at(i, perColumn)};`),
    ...range(across / 4).map(j => `      let b${j} = ${slabB.at(j, perRow)};`),
    ...cells.map(([i, j]) => `      c${i}_${j} += a${Math.floor(i / 4)}.${'xyzw'[i % 4]} * b${j};`),
    // The first column of tiles sums for all.
    ...(rowSums
      ? [
          `      if (left == 0u) { ${range(down / 4)
            .map(i => `s${i} += a${i};`)
            .join(' ')} }`,
        ]
      : []),
  ]

  const body = () => `
  let tile = group % params.tiles;
  let above = group / params.tiles;
  let part = above % params.ranges;
  let product = above / params.ranges;
  let top = tile / params.tilesN * ${rows}u;
  let left = tile % params.tilesN * ${columns}u;
  let down = thread / ${perRow}u;
  let across = thread % ${perRow}u;
${locate(axes)}
  let begin = part * params.range;
  let end = min(begin + params.range, params.K);
${slabA.prepare('top')}
${slabB.prepare('left')}
${lines(cells.map(([i, j]) => `  var c${i}_${j} = vec4f();`))}
${lines(rowSums ? range(down / 4).map(i => `  var s${i} = vec4f();`) : [])}
  var half = 0u;
  for (var k0 = begin; k0 < end + ${depth}u; k0 += ${depth}u) {
    if (k0 < end) {
${slabA.load()}
${slabB.load()}
    }
    if (k0 > begin) {
      for (var k = 0u; k < ${depth}u; k++) {
${lines(products)}
      }
    }
    half = 1u - half;
    if (k0 < end) {
${slabA.store()}
${slabB.store()}
    }
    workgroupBarrier();
  }
  let result = (part * params.products + product) * params.M * params.N;
${lines(range(across / 4).map(j => storeColumn(j)))}
${rowSums ? storeSums() : ''}`

  /** WGSL: row i of a thread, among those of the product. */
  function rowAt(i: number): string {
    return `(top + (down + ${Math.floor(i / 4) * perColumn}u) * 4u + ${i % 4}u)`
  }

  /** WGSL: stores the sums of rows of a, each from one of the threads that have it. */
  function storeSums(): string {
    const stores = range(down).map(
      i =>
        `if (${rowAt(i)} < params.M) { sums[part * params.M + ${rowAt(i)}] = s${Math.floor(i / 4)}.${'xyzw'[i % 4]}; }`,
    )
    return `  if (left == 0u && across == 0u) {\n    ${stores.join('\n    ')}\n  }`
  }

  /** WGSL: stores the results of a thread in one column of fours. */
  function storeColumn(j: number): string {
    const column = `column${j}`
    const biased = ['x', 'y', 'z', 'w'].map((_, q) => `bias[min(${column} + ${q}u, params.N - 1u)]`).join(', ')
    const added = bias
      ? `  let bias${j} = select(vec4f(), vec4f(${biased}), part == 0u);\n${lines(range(down).map(i => `  c${i}_${j} += bias${j};`))}\n`
      : ''
    const stores = range(down).map(i => {
      const row = rowAt(i)
      const at = `result + ${row} * params.N + ${column}`
      const store = wideOut
        ? `if (${column} < params.N) { out[(${at}) / 4u] = c${i}_${j}; }`
        : lines(
            range(4).map(q => `if (${column} + ${q}u < params.N) { out[${at} + ${q}u] = c${i}_${j}.${'xyzw'[q]}; }`),
          )
      return `  if (${row} < params.M) { ${store} }`
    })
    return `  let ${column} = left + (across + ${j * perRow}u) * 4u;\n${added}${lines(stores)}`
  }

  return { declarations: () => `${slabA.declare()}\n${slabB.declare()}`, body }
}

/** WGSL: `baseA` and `baseB`, the offsets of the matrices of a product. */
function locate(axes: number): string {
  const steps = range(axes)
    .reverse()
    .map(
      i => `  baseA += rest % params.size${i} * params.stepA${i};
  baseB += rest % params.size${i} * params.stepB${i};
  rest /= params.size${i};`,
    )
  if (axes === 0) return '  let baseA = 0u;\n  let baseB = 0u;'
  return `  var baseA = 0u;\n  var baseB = 0u;\n  var rest = product;\n${lines(steps)}`
}

/**
 * Workgroup memory of one operand: `depth` rows of `size` elements, twice. A thread loads some fours, each at one k. If
 * memory is contiguous along k, neighbouring threads load along k, and the fours of a row are permuted by k so that
 * neighbours write to different banks.
 */
class Slab {
  readonly #name: string
  readonly #operand: Operand
  /** Parameter with the extent of the matrix along the tile. */
  readonly #extent: string
  readonly #fours: number
  readonly #depth: number
  readonly #threads: number
  readonly #units: readonly number[]
  readonly #swap: number

  constructor(name: string, operand: Operand, extent: string, size: number, depth: number, threads: number) {
    this.#name = name
    this.#operand = operand
    this.#extent = `params.${extent}`
    this.#fours = size / 4
    this.#depth = depth
    this.#threads = threads
    this.#units = range((this.#fours * depth) / threads)
    this.#swap = operand.along === 'k' ? Math.min(this.#fours, 8) - 1 : 0
  }

  get #memory(): string {
    return `${this.#name}Slabs`
  }

  declare(): string {
    return `var<workgroup> ${this.#memory}: array<vec4f, ${2 * this.#fours * this.#depth}>;`
  }

  /** WGSL: source offset at k = 0 and destination of each four of a thread; `first` is the start of the tile. */
  prepare(first: string): string {
    const [name, extent] = [this.#name, this.#extent]
    const base = `base${name.toUpperCase()}`
    return lines(
      this.#units.map(u => {
        const unit = `(thread + ${u * this.#threads}u)`
        const [k, four] =
          this.#operand.along === 'k'
            ? [`${unit} % ${this.#depth}u`, `${unit} / ${this.#depth}u`]
            : [`${unit} / ${this.#fours}u`, `${unit} % ${this.#fours}u`]
        const element = (q: number) => `min(${first} + ${name}Four${u} * 4u + ${q}u, ${extent} - 1u)`
        const from = this.#operand.wide
          ? [`(${base} + min(${first} + ${name}Four${u} * 4u, ${extent} - 4u)) / 4u`]
          : range(4).map(q => `${base} + ${element(q)}${this.#operand.along === 'k' ? ' * params.K' : ''}`)
        return `  let ${name}K${u} = ${k};
  let ${name}Four${u} = ${four};
  let ${name}To${u} = ${name}K${u} * ${this.#fours}u + (${name}Four${u} ^ (${name}K${u} & ${this.#swap}u));
${lines(from.map((f, q) => `  let ${name}From${u}_${q} = ${f};`))}
  var ${name}Next${u} = vec4f();`
      }),
    )
  }

  /** WGSL: loads the slab at k0 into registers. */
  load(): string {
    const [name, extent] = [this.#name, this.#extent]
    return lines(
      this.#units.map(u => {
        const k = `min(k0 + ${name}K${u}, params.K - 1u)`
        const step = { k: k, tile: this.#operand.wide ? `${k} * (${extent} / 4u)` : `${k} * ${extent}` }
        const read = (q: number) => `${name}[${name}From${u}_${q} + ${step[this.#operand.along]}]`
        const four = this.#operand.wide ? read(0) : `vec4f(${range(4).map(read).join(', ')})`
        return `  ${name}Next${u} = select(vec4f(), ${four}, k0 + ${name}K${u} < end);`
      }),
    )
  }

  /** WGSL: stores the registers to the free half. */
  store(): string {
    const { length } = this.#units
    const stores = range(length).map(
      u => `  ${this.#memory}[half * ${this.#fours * this.#depth}u + ${this.#name}To${u}] = ${this.#name}Next${u};`,
    )
    return lines(stores)
  }

  /** WGSL: the four number `index` · `apart` + the thread's own, at k of the slab. */
  at(index: number, apart: number): string {
    const own = this.#name === 'a' ? 'down' : 'across'
    const four = `((${own} + ${index * apart}u) ^ (k & ${this.#swap}u))`
    return `${this.#memory}[half * ${this.#fours * this.#depth}u + k * ${this.#fours}u + ${four}]`
  }
}
