/**
 * Differences from PyTorch that are meant, or in which PyTorch is the less exact one. Each has its reason, and
 * `npm run peers:pytorch` fails on one that no longer occurs.
 */

import type { Quantity } from './cases.ts'
import type { Difference, Kind } from './compare.ts'

interface Explanation {
  readonly ops: readonly string[]
  readonly quantities: readonly Quantity[]
  readonly kinds: readonly Kind[]
  readonly reason: string
}

export const explanations: readonly Explanation[] = [
  {
    ops: ['sign', 'sgn'],
    quantities: ['values'],
    kinds: ['nan'],
    reason: 'the sign of NaN is NaN, as in NumPy and JavaScript; PyTorch returns 0',
  },
  {
    ops: ['abs'],
    quantities: ['first', 'second'],
    kinds: ['nan'],
    reason: 'the slope of |x| at NaN is sign(NaN)',
  },
  {
    ops: ['maximum', 'minimum', 'max', 'min', 'clamp_min', 'clamp_max'],
    quantities: ['first'],
    kinds: ['value'],
    reason: 'a tie gives the gradient to the first operand; PyTorch halves it',
  },
  {
    ops: ['pow', 'float_power'],
    quantities: ['second'],
    kinds: ['nan'],
    reason: 'at base 0 PyTorch selects the value of the first derivative but not its gradient, and has 0 · ∞',
  },
  {
    ops: ['clamp'],
    quantities: ['first'],
    kinds: ['value'],
    reason:
      'beside NaN maximum and minimum give the gradient to both operands; the clamp of PyTorch gives it to x alone',
  },
  {
    ops: ['var'],
    quantities: ['second'],
    kinds: ['nan'],
    reason: 'the variance of n ≤ ddof elements is divided by 0; PyTorch has a branch for its gradient that is constant',
  },
  {
    ops: ['nn.GELU'],
    quantities: ['values'],
    kinds: ['value'],
    reason: "½x(1 + erf(x/√2)) cancels in PyTorch's negative tail; here Φ comes from erfc",
  },
  {
    ops: ['nn.functional.logsigmoid'],
    quantities: ['second'],
    kinds: ['value'],
    reason:
      'composed of softplus here, whose slope σ(1 − σ) cancels in the tail where PyTorch has a formula of its own',
  },
  {
    ops: ['nn.functional.layer_norm'],
    quantities: ['first', 'second'],
    kinds: ['value'],
    reason: 'rows of one or two elements: the exact gradient is 0 or nearly so, and both leave rounding errors',
  },
  {
    ops: ['nn.functional.elu'],
    quantities: ['second'],
    kinds: ['value'],
    reason: 'the slope at 0 is that from below in both orders; PyTorch takes the slope from above in the second',
  },
  {
    ops: ['nn.functional.elu'],
    quantities: ['first', 'second'],
    kinds: ['nan'],
    reason: 'the slope at NaN is NaN; PyTorch has NaN for large tensors and the slope above 0 for small ones',
  },
  {
    ops: ['atan2'],
    quantities: ['second'],
    kinds: ['nan'],
    reason: 'the gradient at the origin is 0 in both orders; PyTorch has 0 · ∞ in the second',
  },
  {
    ops: ['nn.functional.binary_cross_entropy', 'nn.BCELoss'],
    quantities: ['second'],
    kinds: ['value'],
    reason: 'PyTorch adds 1e-12 to p and 1 − p in the second derivative',
  },
  {
    ops: ['logsumexp', 'linalg.vector_norm', 'norm'],
    quantities: ['second'],
    kinds: ['value'],
    reason:
      'of one or two elements, or one that is far larger: the exact derivative is 0 or nearly so, the rest is rounding',
  },
]

/** The explanation of a difference; undefined if there is none. */
export function explanationOf({ op, quantity, kind }: Difference): Explanation | undefined {
  return explanations.find(e => e.ops.includes(op) && e.quantities.includes(quantity) && e.kinds.includes(kind))
}
