/**
 * Formulas of gradient rules, in LaTeX, from the rules' own source: a rule such as `(g, x) => mul(g, cos(x))` is called with
 * symbols in place of tensors, and each function of the package writes its formula. Needs Node. Used by ops.ts.
 */

/** A formula with the strength of its outermost operator: 0 sums, 1 products, 2 what needs no brackets. */
class Symbolic {
  readonly tex: string
  readonly level: number
  constructor(tex: string, level = 2) {
    this.tex = tex
    this.level = level
  }
}

/** A comparison, which becomes an Iverson bracket: 1 where it holds, else 0. */
class Comparison {
  readonly left: Operand
  readonly relation: string
  readonly right: Operand
  constructor(left: Operand, relation: string, right: Operand) {
    this.left = left
    this.relation = relation
    this.right = right
  }
}

type Operand = Symbolic | number

const constants: readonly (readonly [number, string])[] = [
  [2 / Math.sqrt(Math.PI), '\\tfrac{2}{\\sqrt{\\pi}}'],
  [0.5, '\\tfrac12'],
  [-0.5, '-\\tfrac12'],
]

function symbol(x: Operand): Symbolic {
  if (x instanceof Symbolic) return x
  if (typeof x !== 'number' || Number.isNaN(x)) throw new Error('expected a symbol or a number')
  return new Symbolic(constants.find(([value]) => value === x)?.[1] ?? String(x), x < 0 ? 0 : 2)
}

/** The formula, in brackets if its operator is weaker than `level`. */
function at(level: number, x: Operand): string {
  const { tex, level: own } = symbol(x)
  return own < level ? `\\left(${tex}\\right)` : tex
}

const product = (a: Operand, b: Operand) => {
  const number = typeof a === 'number' || typeof b === 'number'
  const [first, second] = typeof b === 'number' ? [b, a] : [a, b]
  return new Symbolic(`${at(1, first)} ${number ? '\\,' : '\\odot'} ${at(1, second)}`, 1)
}
const fraction = (a: Operand, b: Operand) => new Symbolic(`\\frac{${symbol(a).tex}}{${symbol(b).tex}}`)
const power = (x: Operand, exponent: string) => new Symbolic(`${at(2, x)}^{${exponent}}`)
const named = (name: string) => (x: Operand) => new Symbolic(`${name}\\left(${symbol(x).tex}\\right)`)
const bracket = ({ left, relation, right }: Comparison) =>
  new Symbolic(`[${symbol(left).tex} ${relation} ${symbol(right).tex}]`)
const negated: Readonly<Record<string, string>> = { '<': '\\ge', '\\le': '>', '=': '\\ne' }

const functions: Readonly<Record<string, (...x: never[]) => unknown>> = {
  add: (a: Operand, b: Operand) => new Symbolic(`${at(0, a)} + ${at(0, b)}`, 0),
  sub: (a: Operand, b: Operand) => new Symbolic(`${at(0, a)} - ${at(1, b)}`, 0),
  mul: product,
  div: fraction,
  neg: (x: Operand) => new Symbolic(`-${at(1, x)}`, 0),
  affine: (x: Operand, scale: number, shift: number) => {
    if (typeof scale !== 'number' || typeof shift !== 'number') throw new Error('expected numbers')
    if (scale === -1) return new Symbolic(`${shift} - ${at(1, x)}`, 0)
    const scaled = scale === 1 ? symbol(x) : product(scale, x)
    return shift === 0 ? scaled : new Symbolic(`${scaled.tex} + ${shift}`, 0)
  },
  square: (x: Operand) => power(x, '2'),
  pow: (x: Operand, exponent: Operand) => power(x, symbol(exponent).tex),
  sqrt: (x: Operand) => new Symbolic(`\\sqrt{${symbol(x).tex}}`),
  exp: (x: Operand) => new Symbolic(`e^{${symbol(x).tex}}`),
  log: named('\\log'),
  sin: named('\\sin'),
  cos: named('\\cos'),
  sigmoid: named('\\sigma'),
  sign: named('\\operatorname{sign}'),
  zero: () => 0,
  less: (a: Operand, b: Operand) => new Comparison(a, '<', b),
  lessEqual: (a: Operand, b: Operand) => new Comparison(a, '\\le', b),
  equal: (a: Operand, b: Operand) => new Comparison(a, '=', b),
  zeroWhere: ({ left, relation, right }: Comparison, g: Operand) =>
    product(g, bracket(new Comparison(left, negated[relation], right))),
  where: (condition: Comparison, a: Operand, b: Operand) => {
    if (b !== 0) throw new Error('expected 0 elsewhere')
    return product(a, bracket(condition))
  },
}

/** Evaluates JavaScript in which a free name is a function above, or else a symbol of that name. */
function evaluated(code: string): unknown {
  const environment = new Proxy(
    {},
    {
      has: (_, name) => typeof name === 'string' && name !== 'Math',
      get: (_, name) =>
        typeof name === 'string'
          ? (functions[name] ?? new Symbolic(name.length === 1 ? name : `\\mathrm{${name}}`))
          : undefined,
    },
  )
  return new Function('environment', `with (environment) { return (${code}) }`)(environment)
}

/**
 * The formula of each operand's gradient, by a rule `(g, …) => …` whose operands, or result, are its other parameters. Returns
 * null if the rule uses functions that have no formula here.
 */
export function formulasOf(rule: string): string[] | null {
  const head = /^\(?(.*?)\)? =>/.exec(rule)
  if (head === null) return null
  try {
    // A pattern of parameters is also an expression, which makes arguments of that shape.
    const given = evaluated(`[${head[1]}]`) as never[]
    const result = (evaluated(rule) as (...x: never[]) => unknown)(...given)
    const all = Array.isArray(result) ? result.map(thunk => (thunk as () => Operand)()) : [result as Operand]
    return all.map(formula => symbol(formula).tex)
  } catch {
    return null
  }
}
