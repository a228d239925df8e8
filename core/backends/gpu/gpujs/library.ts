/**
 * Functions that every kernel may call. They are spliced in as text, so each uses only its parameters, `Math` and the
 * other functions here. Those of `integers` take and return whole numbers, which gpu.js keeps in i32 only while they
 * pass from call to call: its local variables are f32, exact to 2^24. Kernels therefore keep coordinates (a row, a
 * column) in variables and compute offsets in calls. `wgsl` and `glsl` replace the translation of a function on WebGPU
 * and WebGL 2, whose compilers may assume that there is no NaN. In WGSL they also divide integers, where gpu.js would
 * divide in f32.
 */

type NumberFunction = (...values: number[]) => number

export interface Helper {
  readonly name: string
  readonly source: string
  readonly settings: { readonly argumentTypes: string[]; readonly returnType: string }
  /** Body in WGSL that replaces the translation; $1, $2, … are the parameters. */
  readonly wgsl?: string
  /** Definition in GLSL ES 3 that replaces the translation. */
  readonly glsl?: string
}

// Declared because a bundler renames neither these nor the keys below, which define them.
declare function quotient(a: number, b: number): number
declare function isNan(x: number): number
declare function notANumber(x: number): number
declare function exponential(x: number): number
declare function logarithm(x: number): number
declare function larger(a: number, b: number): number
declare function smaller(a: number, b: number): number
declare function sigmoid(x: number): number
declare function twiceU(x: number): number
declare function erfc(x: number): number
declare function isNumber(x: number): number
declare function isNegative(x: number): number
declare function logOnePlus(x: number): number

const integers = {
  /** ⌊a / b⌋ for a ≥ 0. Adds a half because in floats 6 / 3 may be less than 2. */
  quotient(a: number, b: number): number {
    return Math.floor((a + 0.5) / b)
  },

  remainder(a: number, b: number): number {
    return a - quotient(a, b) * b
  },

  /** Row-major offset of (outer, row, column) in an array (…, rows, width). */
  element(outer: number, rows: number, row: number, width: number, column: number): number {
    return (outer * rows + row) * width + column
  },

  /** i s + j t + k u */
  place(i: number, s: number, j: number, t: number, k: number, u: number): number {
    return i * s + j * t + k * u
  },

  /** Index of offset `at` along the middle axis of (…, n, inner). */
  along(at: number, n: number, inner: number): number {
    // Does not call remainder: in GLSL, gpu.js would define remainder before the quotient that it calls.
    return quotient(at, inner) - quotient(at, inner * n) * n
  },
}

const numbers = {
  /** 1 if x is NaN, else 0. */
  isNan(x: number): number {
    return x >= 0 || x < 0 ? 0 : 1
  },

  isNumber(x: number): number {
    return x - x === 0 ? 1 : 0
  },

  /** 1 if the sign bit of x is set, else 0. */
  isNegative(x: number): number {
    return x < 0 || 1 / x < 0 ? 1 : 0
  },

  /** NaN, for every x. */
  notANumber(x: number): number {
    return Math.sqrt(-1 - Math.abs(x))
  },

  exponential(x: number): number {
    return Math.exp(x)
  },

  logarithm(x: number): number {
    return Math.log(x)
  },

  larger(a: number, b: number): number {
    return Math.max(a, b)
  },

  smaller(a: number, b: number): number {
    return Math.min(a, b)
  },

  /**
   * 1 − erf(x) with a relative error below 1.2e-7, about f32's precision: the Chebyshev fit of W. H. Press et al.,
   * "Numerical Recipes in C", 2nd ed., §6.2.
   */
  erfc(x: number): number {
    const z = Math.abs(x)
    const t = 1 / (1 + 0.5 * z)
    let s = -0.82215223 + t * 0.17087277
    s = 1.48851587 + t * s
    s = -1.13520398 + t * s
    s = 0.27886807 + t * s
    s = -0.18628806 + t * s
    s = 0.09678418 + t * s
    s = 0.37409196 + t * s
    s = 1.00002368 + t * s
    const tail = t * exponential(-z * z - 1.26551223 + t * s)
    return x >= 0 ? tail : 2 - tail
  },

  /** Uses the series near 0, where 1 − erfc(x) loses digits. */
  erf(x: number): number {
    if (Math.abs(x) < 0.5) {
      const s = x * x
      const low = -0.0268661706 + s * (0.0052239776 - s * (0.0008548327 - s * 0.00012055333))
      return x * (1.1283791671 + s * (-0.376126389 + s * (0.1128379167 + s * low)))
    }
    return 1 - erfc(x)
  },

  /** The integer nearest to x, of two equally near ones the even one. */
  roundHalfToEven(x: number): number {
    if (isNumber(x) === 0) {
      return x
    }
    const size = Math.abs(x)
    const low = Math.floor(size)
    const rest = size - low
    const odd = low - 2 * Math.floor(0.5 * low)
    const near = rest < 0.5 || (rest === 0.5 && odd === 0) ? low : low + 1
    return isNegative(x) === 1 ? -near : near
  },

  /** log(1 + x), near 0 as 2 artanh(x / (2 + x)). */
  logOnePlus(x: number): number {
    if (x >= -0.5 && x <= 1) {
      const z = x / (2 + x)
      const s = z * z
      const low = 0.1428571429 + s * (0.1111111111 + s * (0.0909090909 + s * (0.0769230769 + s * 0.0666666667)))
      return z * (2 + 2 * s * (0.3333333333 + s * (0.2 + s * low)))
    }
    return logarithm(1 + x)
  },

  /** eˣ − 1, near 0 by Taylor's series. */
  expMinusOne(x: number): number {
    if (Math.abs(x) < 0.5) {
      const low = 0.00833333333 + x * (0.00138888889 + x * (0.000198412698 + x * (0.0000248015873 + x * 0.0000027557)))
      return x * (1 + x * (0.5 + x * (0.16666666667 + x * (0.04166666667 + x * low))))
    }
    return exponential(x) - 1
  },

  softplus(x: number): number {
    return larger(x, 0) + logOnePlus(exponential(-Math.abs(x)))
  },

  sigmoid(x: number): number {
    return 1 / (1 + exponential(-x))
  },

  /** x·σ(2u) is GELU's tanh form: 2u = 2√(2/π)(x + 0.044715 x³). */
  twiceU(x: number): number {
    return 1.5957691216057308 * x + 0.0713548162726009 * x * x * x
  },

  /** tanh. WGSL's own has errors up to 1e-5. */
  accurateTanh(x: number): number {
    if (Math.abs(x) < 0.2) {
      const s = x * x
      return x * (1 + s * (-0.3333333333 + s * (0.1333333333 - s * 0.05396825397)))
    }
    return 2 / (1 + exponential(-2 * x)) - 1
  },

  /**
   * sin(x + quarter · π/2) for |x| up to 5e7; WGSL's own has errors up to 5e-4. Removes `far` · 1024 turns and `near`
   * quarter turns from x, then sums Taylor's series. π/2 has three parts; products with the first two are exact in f32.
   */
  sine(x: number, quarter: number): number {
    const far = Math.floor(x * 1.5542474911317905e-4 + 0.5)
    const near = Math.floor((x - far * 6432 - far * 1.9817545518) * 0.6366197723675814 + 0.5)
    const most = x - far * 6432 - near * 1.5703125
    const r = most - far * 1.9814453125 - near * 4.837512969970703e-4 - (far * 4096 + near) * 7.54978995489188e-8
    const turn = near + quarter - 4 * Math.floor((near + quarter) * 0.25)
    const s = r * r
    const odd = r * (1 + s * (-0.16666666666 + s * (0.00833333333 - s * (0.000198412698 - s * 0.0000027557))))
    const even = 1 + s * (-0.5 + s * (0.04166666666 - s * (0.00138888888 - s * (0.0000248015873 - s * 0.00000027557))))
    const value = turn === 0 || turn === 2 ? odd : even
    return turn >= 2 ? -value : value
  },

  /** x^p */
  power(x: number, p: number): number {
    if (p === 0) {
      return 1
    }
    if (isNan(x) === 1 || isNan(p) === 1 || (x < 0 && p !== Math.floor(p))) {
      return notANumber(x)
    }
    const odd = p - 2 * Math.floor(0.5 * p)
    if (x === 0) {
      if (p > 0) {
        return odd === 1 ? x : 0
      }
      return odd === 1 ? 1 / x : -logarithm(0 * x)
    }
    const size = Math.abs(x) ** p
    return x < 0 && odd === 1 ? -size : size
  },

  /** a − b⌊a/b⌋. The quotient may be off by one where it is large. */
  floorMod(a: number, b: number): number {
    if (isNumber(a) === 0 || b === 0) {
      return notANumber(a)
    }
    if (isNumber(b) === 0) {
      if (isNan(b) === 1 || (a < 0 && b > 0) || (a > 0 && b < 0)) {
        return b
      }
      return a
    }
    const size = Math.abs(b)
    const turned = b < 0 ? -a : a
    const rest = turned - size * Math.floor(turned / size)
    const up = rest < 0 ? rest + size : rest
    const down = up >= size ? up - size : up
    return b < 0 ? -down : down
  },

  /** The angle of (x, y): that of the smaller over the larger coordinate (Cephes, single precision), turned to its octant. */
  angle(y: number, x: number): number {
    if (isNan(x) === 1) {
      return x
    }
    if (isNan(y) === 1) {
      return y
    }
    const across = Math.abs(x)
    const up = Math.abs(y)
    const most = larger(across, up)
    const least = smaller(across, up)
    const ratio = most === 0 ? 0 : least / most
    const t = isNumber(least) === 0 ? 1 : ratio
    const u = t > 0.4142135623730951 ? (t - 1) / (t + 1) : t
    const z = u * u
    const near = u + u * z * (-0.333329491539 + z * (0.199777106478 + z * (-0.138776856032 + z * 0.0805374449538)))
    const octant = t > 0.4142135623730951 ? 0.7853981633974483 + near : near
    const quadrant = up > across ? 1.5707963267948966 - octant : octant
    const half = isNegative(x) === 1 ? Math.PI - quadrant : quadrant
    return isNegative(y) === 1 ? -half : half
  },

  /** d/dx of x·σ(2u), GELU's tanh form. Beyond ±20, σ(2u) is 0 or 1, and x² times its slope would be 0·∞. */
  geluTanhSlope(x: number): number {
    const near = smaller(larger(x, -20), 20)
    const s = sigmoid(twiceU(near))
    return s + near * s * (1 - s) * (1.5957691216057308 + 0.2140644488178027 * near * near)
  },

  /** (x − mean) / √variance. A negative `inverse` belongs to deviations in units of 2⁸⁰, whose squares are finite. */
  standardise(x: number, mean: number, inverse: number): number {
    return inverse < 0 ? (mean - x) * 8.271806125530277e-25 * inverse : (x - mean) * inverse
  },

  /** 1 / √variance, of the same `inverse`. */
  inverseDeviation(inverse: number): number {
    return inverse < 0 ? -8.271806125530277e-25 * inverse : inverse
  },
}

/** Expressions of a shading language: the bits of a float, the float of bits, and 1 or 0 for a condition. */
interface Dialect {
  readonly bits: (x: string) => string
  readonly float: (bits: string) => string
  readonly oneIf: (condition: string) => string
}

/**
 * Bodies that detect NaN by its bits. $1, $2, … are the parameters, whose names a bundler may change.
 */
function byBits({ bits, float, oneIf }: Dialect): Record<string, string> {
  const size = (x: string) => `(${bits(x)} & 0x7fffffffu)`
  const isNan = (x: string) => `${size(x)} > 0x7f800000u`
  const quietNan = float(`${bits('$1')} | 0x7fc00000u`)
  const nanFirst = `if (${isNan('$1')}) { return $1; } if (${isNan('$2')}) { return $2; }`
  return {
    isNan: `return ${oneIf(isNan('$1'))};`,
    isNegative: `return ${oneIf(`${bits('$1')} > 0x7fffffffu`)};`,
    isNumber: `return ${oneIf(`${size('$1')} < 0x7f800000u`)};`,
    notANumber: `return ${quietNan};`,
    exponential: `if (${isNan('$1')}) { return $1; } return exp($1);`,
    logarithm: `if (${size('$1')} == 0u) { return ${float(`${bits('$1')} | 0xff800000u`)}; }
      if ($1 < 0.0 || ${isNan('$1')}) { return ${quietNan}; } return log($1);`,
    larger: `${nanFirst} return max($1, $2);`,
    smaller: `${nanFirst} return min($1, $2);`,
  }
}

const wgsl: Readonly<Record<string, string>> = {
  quotient: 'return $1 / $2;',
  remainder: 'return $1 % $2;',
  along: 'return ($1 / $3) % $2;',
  ...byBits({
    bits: x => `bitcast<u32>(${x})`,
    float: bits => `bitcast<f32>(${bits})`,
    oneIf: condition => `select(0.0, 1.0, ${condition})`,
  }),
}

const glsl = byBits({
  bits: x => `floatBitsToUint(${x})`,
  float: bits => `uintBitsToFloat(${bits})`,
  oneIf: condition => `(${condition}) ? 1.0 : 0.0`,
})

export const library: readonly Helper[] = [
  ...Object.entries(integers).map(([name, fn]) => helper(name, fn, 'Integer')),
  ...Object.entries(numbers).map(([name, fn]) => helper(name, fn, 'Number')),
]

function helper(name: string, fn: NumberFunction, type: 'Integer' | 'Number'): Helper {
  const argumentTypes = Array.from({ length: fn.length }, () => type)
  const settings = { argumentTypes, returnType: type }
  return { name, source: `function ${fn.toString()}`, settings, wgsl: wgsl[name], glsl: native(name, fn.length) }
}

/** Returns a function of `count` floats in GLSL, or undefined if the translation is used. */
function native(name: string, count: number): string | undefined {
  if (!(name in glsl)) return undefined
  const parameters = Array.from({ length: count }, (_, i) => `x${i + 1}`)
  return `float ${name}(${parameters.map(x => `float ${x}`).join(', ')}) { ${glsl[name].replaceAll('$', 'x')} }`
}

/** Most axes that `offset` takes. */
export const maxRank = 6

/**
 * Returns the function offset(at, n1 … n5, s1 … s6): the offset by strides s of element `at` of an array of extents n,
 * last axis first. It ignores extents beyond `rank` − 1 and strides beyond `rank`.
 */
export function offsetHelper(rank: number): Helper {
  const sizes = Array.from({ length: maxRank - 1 }, (_, i) => `n${i + 1}`)
  const strides = Array.from({ length: maxRank }, (_, i) => `s${i + 1}`)
  const from = (axis: number, at: string): string =>
    axis === rank - 1
      ? `${at} * ${strides[axis]}`
      : `remainder(${at}, ${sizes[axis]}) * ${strides[axis]} + ${from(axis + 1, `quotient(${at}, ${sizes[axis]})`)}`
  const parameters = ['at', ...sizes, ...strides]
  const argumentTypes = parameters.map(() => 'Integer')
  const source = `function offset(${parameters.join(', ')}) { return ${rank === 0 ? '0 * at' : from(0, 'at')} }`
  return { name: 'offset', source, settings: { argumentTypes, returnType: 'Integer' } }
}

const sources = new Map<unknown, Map<string, string>>()

/** Returns the source of a function `name` of `count` numbers, from an arrow that takes the first of them. Sources are kept. */
export function functionOf(name: string, count: number, arrow: (...values: never[]) => number): string {
  let own = sources.get(arrow)
  if (own === undefined) {
    own = new Map()
    sources.set(arrow, own)
  }
  let source = own.get(name)
  if (source === undefined) {
    source = sourceOf(name, count, arrow.toString())
    own.set(name, source)
  }
  return source
}

function sourceOf(name: string, count: number, arrow: string): string {
  const [head, body] = [arrow.slice(0, arrow.indexOf('=>')), arrow.slice(arrow.indexOf('=>') + 2)]
  const own = head
    .replace(/[()\s]/g, '')
    .split(',')
    .filter(Boolean)
  const parameters = Array.from({ length: count }, (_, i) => own[i] ?? `unused${i}`)
  return `function ${name}(${parameters.join(', ')}) { return ${body} }`
}
