/**
 * The values of a DiT block as a graph: symbol, name, the formula that computes each value from its inputs and the rule
 * of its gradient, and its place in the diagram. Used by block.ts, which computes them, and Block.vue, which draws them.
 */

/** A value of the block. */
export interface BlockNode {
  readonly symbol: string
  readonly title: string
  /** Keys of the values from which it is computed. */
  readonly inputs: readonly string[]
  readonly formula: string
  /** Gradient of the loss by this value, from the gradients of the values that it enters. */
  readonly rule: string
  /** Row of the diagram, counted from 0. */
  readonly row: number
  /** Left edge and width of its box, in pixels. */
  readonly span: readonly [left: number, width: number]
}

const [whole, narrow] = [[40, 110] as const, [40, 74] as const]
const [wide, left, right] = [[186, 104] as const, [186, 49] as const, [241, 49] as const]

/** All values, inputs before results. Letters are those of the chapter on layers; 1 is attention's branch, 2 that of the MLP. */
export const blockNodes = {
  x: {
    symbol: 'x',
    title: 'tokens that enter',
    inputs: [],
    formula: 'x = output of the block before',
    rule: '∂L/∂x = ∂L/∂r, unchanged, and what the layer norm sends back',
    row: 0,
    span: whole,
  },
  c: {
    symbol: 'c',
    title: 'condition: timestep and label',
    inputs: [],
    formula: 'c = embedding of t + embedding of the label',
    rule: '∂L/∂c: all blocks and the last layer read c, and their gradients add up',
    row: 0,
    span: wide,
  },
  beta1: {
    symbol: 'β₁',
    title: 'shift of attention’s input',
    inputs: ['c'],
    formula: '[β₁ γ₁ α₁ β₂ γ₂ α₂] = W silu(c) + b',
    rule: '∂L/∂β₁ = Σ over tokens of ∂L/∂y₁',
    row: 1,
    span: left,
  },
  gamma1: {
    symbol: 'γ₁',
    title: 'scale of attention’s input',
    inputs: ['c'],
    formula: '[β₁ γ₁ α₁ β₂ γ₂ α₂] = W silu(c) + b',
    rule: '∂L/∂γ₁ = Σ over tokens of ∂L/∂y₁ ⊙ x̂₁',
    row: 1,
    span: right,
  },
  normed1: {
    symbol: 'x̂₁',
    title: 'layer norm: each token with mean 0, variance 1',
    inputs: ['x'],
    formula: 'x̂₁ = LN(x)',
    rule: '∂L/∂x̂₁ = (1 + γ₁) ⊙ ∂L/∂y₁',
    row: 1,
    span: whole,
  },
  modulated1: {
    symbol: 'y₁',
    title: 'modulated tokens',
    inputs: ['normed1', 'beta1', 'gamma1'],
    formula: 'y₁ = (1 + γ₁) ⊙ x̂₁ + β₁',
    rule: '∂L/∂y₁ = [∂L/∂q ∂L/∂k ∂L/∂v] W',
    row: 2,
    span: whole,
  },
  q: {
    symbol: 'q',
    title: 'queries of each head',
    inputs: ['modulated1'],
    formula: '[q k v] = W y₁ + b',
    rule: '∂L/∂q = ∂L/∂s · k / √d',
    row: 3,
    span: [40, 34],
  },
  k: {
    symbol: 'k',
    title: 'keys of each head',
    inputs: ['modulated1'],
    formula: '[q k v] = W y₁ + b',
    rule: '∂L/∂k = (∂L/∂s)ᵀ · q / √d',
    row: 3,
    span: [78, 34],
  },
  v: {
    symbol: 'v',
    title: 'values of each head',
    inputs: ['modulated1'],
    formula: '[q k v] = W y₁ + b',
    rule: '∂L/∂v = pᵀ · ∂L/∂h',
    row: 3,
    span: [116, 34],
  },
  logits: {
    symbol: 's',
    title: 'logits of each pair of tokens, with MDT’s relative position bias B',
    inputs: ['q', 'k'],
    formula: 's = q kᵀ / √d + B',
    rule: '∂L/∂s = p ⊙ (∂L/∂p − Σ over keys of p ⊙ ∂L/∂p)',
    row: 4,
    span: narrow,
  },
  weights: {
    symbol: 'p',
    title: 'attention: each row sums to 1',
    inputs: ['logits'],
    formula: 'p = softmax(s)',
    rule: '∂L/∂p = ∂L/∂h · vᵀ',
    row: 5,
    span: narrow,
  },
  heads: {
    symbol: 'h',
    title: 'weighted values of each head',
    inputs: ['weights', 'v'],
    formula: 'h = p v',
    rule: '∂L/∂h = ∂L/∂u₁ · W, cut into heads',
    row: 6,
    span: whole,
  },
  branch1: {
    symbol: 'u₁',
    title: 'output of attention',
    inputs: ['heads'],
    formula: 'u₁ = W [heads side by side] + b',
    rule: '∂L/∂u₁ = α₁ ⊙ ∂L/∂r',
    row: 7,
    span: whole,
  },
  alpha1: {
    symbol: 'α₁',
    title: 'gate of attention',
    inputs: ['c'],
    formula: '[β₁ γ₁ α₁ β₂ γ₂ α₂] = W silu(c) + b',
    rule: '∂L/∂α₁ = Σ over tokens of ∂L/∂r ⊙ u₁',
    row: 7,
    span: wide,
  },
  middle: {
    symbol: 'r',
    title: 'tokens between the two branches',
    inputs: ['x', 'alpha1', 'branch1'],
    formula: 'r = x + α₁ ⊙ u₁',
    rule: '∂L/∂r = ∂L/∂o, unchanged, and what the layer norm sends back',
    row: 8,
    span: whole,
  },
  beta2: {
    symbol: 'β₂',
    title: 'shift of the MLP’s input',
    inputs: ['c'],
    formula: '[β₁ γ₁ α₁ β₂ γ₂ α₂] = W silu(c) + b',
    rule: '∂L/∂β₂ = Σ over tokens of ∂L/∂y₂',
    row: 9,
    span: left,
  },
  gamma2: {
    symbol: 'γ₂',
    title: 'scale of the MLP’s input',
    inputs: ['c'],
    formula: '[β₁ γ₁ α₁ β₂ γ₂ α₂] = W silu(c) + b',
    rule: '∂L/∂γ₂ = Σ over tokens of ∂L/∂y₂ ⊙ x̂₂',
    row: 9,
    span: right,
  },
  normed2: {
    symbol: 'x̂₂',
    title: 'layer norm of the tokens between',
    inputs: ['middle'],
    formula: 'x̂₂ = LN(r)',
    rule: '∂L/∂x̂₂ = (1 + γ₂) ⊙ ∂L/∂y₂',
    row: 9,
    span: whole,
  },
  modulated2: {
    symbol: 'y₂',
    title: 'modulated tokens',
    inputs: ['normed2', 'beta2', 'gamma2'],
    formula: 'y₂ = (1 + γ₂) ⊙ x̂₂ + β₂',
    rule: '∂L/∂y₂ = ∂L/∂f · W',
    row: 10,
    span: whole,
  },
  hidden: {
    symbol: 'f',
    title: 'hidden values of the MLP, four times as many',
    inputs: ['modulated2'],
    formula: 'f = W y₂ + b',
    rule: '∂L/∂f = gelu′(f) ⊙ ∂L/∂a',
    row: 11,
    span: whole,
  },
  active: {
    symbol: 'a',
    title: 'hidden values behind the activation',
    inputs: ['hidden'],
    formula: 'a = gelu(f)',
    rule: '∂L/∂a = ∂L/∂u₂ · W',
    row: 12,
    span: whole,
  },
  branch2: {
    symbol: 'u₂',
    title: 'output of the MLP',
    inputs: ['active'],
    formula: 'u₂ = W a + b',
    rule: '∂L/∂u₂ = α₂ ⊙ ∂L/∂o',
    row: 13,
    span: whole,
  },
  alpha2: {
    symbol: 'α₂',
    title: 'gate of the MLP',
    inputs: ['c'],
    formula: '[β₁ γ₁ α₁ β₂ γ₂ α₂] = W silu(c) + b',
    rule: '∂L/∂α₂ = Σ over tokens of ∂L/∂o ⊙ u₂',
    row: 13,
    span: wide,
  },
  out: {
    symbol: 'o',
    title: 'tokens that leave',
    inputs: ['middle', 'alpha2', 'branch2'],
    formula: 'o = r + α₂ ⊙ u₂',
    rule: '∂L/∂o comes from the blocks behind',
    row: 14,
    span: whole,
  },
} as const satisfies Readonly<Record<string, BlockNode>>

/** Key of a value. */
export type BlockKey = keyof typeof blockNodes

export const blockKeys = Object.keys(blockNodes) as BlockKey[]

/** A value as it was computed. */
export interface BlockValue {
  readonly shape: readonly number[]
  readonly values: Float32Array
  /** Of the loss by each of its numbers. */
  readonly gradient: Float32Array
}

/** All values of one block on one noised picture. */
export interface BlockRun {
  readonly values: Readonly<Record<BlockKey, BlockValue>>
  /** Mean squared error of the predicted noise. */
  readonly loss: number
  /** Number of blocks of the model. */
  readonly depth: number
  /** Input of the model, RGBA (16, 16, 4). */
  readonly noised: Uint8ClampedArray
}

/** Size and gaps of the diagram, in pixels. */
export const diagram = { width: 300, rowHeight: 34, pitch: 48, lane: 18, bus: 296 } as const

/** Lines of the diagram from a value to one that it enters: points as [x, y]. */
export function edgesOf(): readonly { from: BlockKey; to: BlockKey; points: readonly (readonly [number, number])[] }[] {
  const { rowHeight, pitch, lane, bus } = diagram
  return blockKeys.flatMap(to => {
    const target: BlockNode = blockNodes[to]
    const top = target.row * pitch
    const middle = top + rowHeight / 2
    return (target.inputs as readonly BlockKey[]).map(from => {
      const source: BlockNode = blockNodes[from]
      const bottom = source.row * pitch + rowHeight
      const centre = ({ span: [x, w] }: BlockNode) => x + w / 2
      const sameColumn = source.span[0] < 160
      // The condition runs down on the right, above the vectors that it gives.
      if (from === 'c') {
        const turn = top - (pitch - rowHeight) / 2
        const start: readonly [number, number] = [bus, rowHeight / 2]
        return {
          from,
          to,
          points: [[290, rowHeight / 2], start, [bus, turn], [centre(target), turn], [centre(target), top]],
        }
      }
      // The vectors enter tokens from the right.
      if (!sameColumn) {
        const end: readonly [number, number] = [target.span[0] + target.span[1], middle]
        return { from, to, points: [[centre(source), bottom], [centre(source), middle], end] }
      }
      // Tokens past a branch run down on the left.
      if (target.row - source.row > 2 && source.span[1] === 110) {
        const start: readonly [number, number] = [source.span[0], bottom - rowHeight / 2]
        return { from, to, points: [start, [lane, start[1]], [lane, middle], [target.span[0], middle]] }
      }
      // Straight down, at the narrower box.
      const x = source.span[1] < target.span[1] ? centre(source) : centre(target)
      return {
        from,
        to,
        points: [
          [x, bottom],
          [x, top],
        ],
      }
    })
  })
}
