/**
 * From one multiplication to a gradient, a Jacobian's transpose and a second derivative.
 * Run: npx tsx examples/01-autograd.ts. Read beside it: core/ops/elementwise.ts (the rule of each op) and core/tape.ts
 * (the walk backwards).
 */

import { backward, grad, gradients, matmul, mul, scope, sin, stats, sum, tanh, tensor } from '../core/index.ts'

const show = (values: ArrayLike<number>) => `[${Array.from(values, v => v.toFixed(4)).join(', ')}]`

// 1. A leaf that wants a gradient, one multiplication, and the walk back: d(ab)/da = b, d(ab)/db = a.
const a = tensor([3]).requireGrad()
const b = tensor([5]).requireGrad()
const product = mul(a, b)
backward(product)
console.log(`a·b = ${await product.item()}, d/da = ${await a.grad!.item()}, d/db = ${await b.grad!.item()}`)

// 2. Every result remembers the op that made it, and that op what its rule needs: the chain rule is a walk along these.
const x = tensor([0, 0.5, 1]).requireGrad()
const y = sum(sin(mul(x, x)))
console.log(`made by: ${y.node!.op!.name} ← ${y.node!.inputs[0]!.op!.name} ← ${y.node!.inputs[0]!.inputs[0]!.op!.name}`)
backward(y)
console.log(`d Σ sin(x²) / dx = 2x cos(x²) = ${show(await x.grad!.data())}`)

// 3. Several results: backward needs to know how much each one counts. That is a product with the Jacobian's transpose.
const w = tensor([
  [1, 2, 3],
  [4, 5, 6],
]).requireGrad() // (2, 3)
const column = tensor([[1], [0], [-1]]) // (3, 1)
const [gw] = gradients(tanh(matmul(w, column)), [w], { cotangent: tensor([[1], [0]]) })
console.log(`gradient of the first result only: ${show(await gw.data())}`)

// 4. A gradient is a computation like any other, so it has a gradient too.
const cube = (t: typeof x) => sum(mul(mul(t, t), t))
const slope = grad(cube)
const curvature = grad((t: typeof x) => sum(slope(t)[0]))
console.log(
  `x³ at 2: slope ${show(await slope(tensor([2]))[0].data())}, curvature ${show(await curvature(tensor([2]))[0].data())}`,
)

// 5. A scope frees all that was made inside it but what it returns: a training step needs no bookkeeping.
const before = stats().tensors
const total = scope(() => sum(matmul(tensor([[1, 2]]), tensor([[3], [4]]))))
console.log(`1·3 + 2·4 = ${await total.item()}; handles that outlived the scope: ${stats().tensors - before}`)
