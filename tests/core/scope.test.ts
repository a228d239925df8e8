/**
 * Lifetimes: what a scope frees and what survives it, to the byte; handles that share memory; use after dispose.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  backward,
  broadcastTo,
  cast,
  concat,
  cpu,
  enableGrad,
  exp,
  firstNonFinite,
  gradEnabled,
  gradients,
  matmul,
  mul,
  noGrad,
  profile,
  reshape,
  scope,
  slice,
  square,
  stats,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '../../core/index.ts'
import { tensor64, values } from '../near.ts'
import { leavesNothing } from './helpers.ts'

/** Bytes on `cpu` now, less those at the last call of `mark`. */
let origin = 0
const mark = () => {
  origin = cpu.stats().bytes
}
const grown = () => cpu.stats().bytes - origin

test('a scope frees what was made inside it, to the byte', () => {
  mark()
  const tensors = stats(cpu).tensors
  scope(() => {
    const x = zeros([100], { dtype: 'f64', backend: cpu })
    exp(mul(x, x))
    assert.is(grown(), 3 * 800)
  })
  assert.is(grown(), 0)
  assert.is(stats(cpu).tensors, tensors)
})

test('what is returned survives: alone, in arrays, in plain objects, however deep', () => {
  mark()
  const kept = scope(() => {
    const [a, b, c, d] = [tensor64([1]), tensor64([2, 2]), tensor64([3, 3, 3]), tensor64([4, 4, 4, 4])]
    mul(d, d)
    return { a, list: [b, { c }], count: 3, nothing: null, name: 'x' }
  })
  assert.is(grown(), (1 + 2 + 3) * 8)
  assert.equal(values((kept.list[1] as { c: Tensor }).c), [3, 3, 3])
  assert.is(kept.count, 3)
  kept.a.dispose()
  ;(kept.list[0] as Tensor).dispose()
  ;(kept.list[1] as { c: Tensor }).c.dispose()
  assert.is(grown(), 0)
})

test('an inner scope hands its result to the outer one, which frees it', () => {
  mark()
  scope(() => {
    const y = scope(() => {
      const x = tensor64([1, 2])
      return scope(() => square(x))
    })
    assert.is(grown(), 16)
    assert.equal(values(y), [1, 4])
  })
  assert.is(grown(), 0)
})

test('a tensor from outside is left alone, returned or not', () => {
  mark()
  const x = tensor64([1, 2])
  assert.is(
    scope(() => x),
    x,
  )
  scope(() => void square(x))
  assert.equal(values(x), [1, 2])
  x.dispose()
  assert.is(grown(), 0)
})

test('a returned result keeps the graph that it needs, and only that', () => {
  mark()
  const w = tensor64([1, 2, 3]).requireGrad()
  const leaf = grown()
  const loss = scope(() => {
    const cube = mul(mul(w, w), w) // keeps w and w²
    exp(w) // keeps a result that is not used
    return sum(cube)
  })
  assert.is(grown() - leaf, 24 + 8) // w² and the loss
  // It may cross several scopes, and be walked inside another.
  const outer = scope(() => scope(() => mul(loss, loss)))
  scope(() => backward(outer))
  assert.equal(
    values(w.grad!),
    [1, 2, 3].map(x => 2 * 36 * 3 * x * x),
  )
  assert.is(grown() - leaf, 24 + 8 + 8) // the gradient, the loss and its square
  for (const t of [w, loss, outer]) t.dispose()
  assert.is(grown(), 0)
})

test('a graph that nobody returned is gone with its scope, and says so', () => {
  const w = tensor64([2]).requireGrad()
  const outside: Tensor[] = []
  scope(() => {
    const y = exp(w)
    outside.push(y.alias().persist(), reshape(y, [1, 1]))
  })
  backward(outside[0]) // persistent: with its graph
  assert.ok(outside[1].disposed)
  assert.throws(() => backward(outside[1]), /use after dispose of a f64 tensor of shape \[1, 1\]/)
  outside[0].dispose()
  w.dispose()
})

test('persistent tensors survive every scope, until disposed', () => {
  mark()
  let state!: Tensor
  scope(() => {
    scope(() => {
      state = square(tensor64([1, 2, 3])).persist()
    })
  })
  assert.is(grown(), 24)
  assert.equal(values(state), [1, 4, 9])
  state.dispose()
  assert.is(grown(), 0)
})

test('a gradient lives as long as its leaf', () => {
  mark()
  // A leaf from outside: its gradient survives the scope of the step.
  const w = tensor64([1, 2]).requireGrad()
  scope(() => backward(sum(square(w))))
  assert.equal(values(w.grad!), [2, 4])
  // A leaf from inside: as in a gradient penalty, whose input is a leaf for one step.
  const before = grown()
  scope(() => {
    const x = tensor64([3, 4]).requireGrad()
    backward(sum(mul(x, w)))
    assert.equal(values(x.grad!), [1, 2])
  })
  assert.is(grown(), before)
  // Returned, it becomes an ordinary tensor of the outer scope.
  scope(() => {
    const g = scope(() => {
      const x = tensor64([3, 4]).requireGrad()
      backward(sum(square(x)))
      return x.grad!
    })
    assert.equal(values(g), [6, 8])
  })
  assert.is(grown(), before)
  w.dispose()
  assert.is(grown(), 0)
})

test('a graph whose leaf is gone gives its gradient to nobody', () => {
  leavesNothing(() => {
    const y = scope(() => square(tensor64([3]).requireGrad()))
    backward(y)
  })
})

test('a throw frees everything, also what was to be returned, and the scope is left', () => {
  mark()
  const error = new Error('out')
  try {
    scope(() => {
      const x = tensor64([1, 2])
      scope(() => {
        mul(x, x)
        throw error
      })
    })
    assert.unreachable()
  } catch (caught) {
    assert.is(caught, error)
  }
  assert.is(grown(), 0)
  const after = tensor64([1]) // in no scope now
  scope(() => {})
  assert.not.ok(after.disposed)
  after.dispose()
})

test('a promise is refused, and what was made before it is freed', () => {
  mark()
  const late = async () => {
    tensor64([1, 2, 3])
  }
  // @ts-expect-error an async function does not type-check
  assert.throws(() => scope(late), /scope: expected a synchronous function, got one that returns a promise/)
  // biome-ignore lint/suspicious/noThenProperty: a thenable that is no promise is what is tested
  const thenable = () => ({ then: () => tensor64([1]), made: tensor64([1]) })
  assert.throws(() => scope(thenable as () => unknown), /scope: expected a synchronous function/)
  assert.is(grown(), 0)
})

test('an async function is refused by all that runs one, and its rejection is handled', async () => {
  const rejections: unknown[] = []
  const note = (reason: unknown) => rejections.push(reason)
  process.on('unhandledRejection', note)
  const late = async () => {
    const x = tensor64([1])
    await null
    square(x) // freed by then, or outside of what runs it
    throw new Error('late')
  }
  const message = (name: string) =>
    `${name}: expected a synchronous function, got one that returns a promise; await after ${name}`
  // @ts-expect-error an async function does not type-check
  assert.throws(() => scope(late), message('scope'))
  assert.throws(() => noGrad(late), message('noGrad'))
  assert.throws(() => enableGrad(late), message('enableGrad'))
  assert.throws(() => profile(late), message('profile'))
  assert.is(await firstNonFinite(late).catch((error: Error) => error.message), message('firstNonFinite'))
  assert.ok(gradEnabled())
  await new Promise(resolve => setTimeout(resolve, 10))
  process.off('unhandledRejection', note)
  assert.equal(rejections, [])
})

test('maps, sets, objects without a prototype and cycles are looked into', () => {
  mark()
  const kept = scope(() => {
    const [a, b, c, d] = [tensor64([1]), tensor64([2, 2]), tensor64([3, 3, 3]), tensor64([4, 4, 4, 4])]
    const list: unknown[] = [Object.assign(Object.create(null), { d })]
    list.push(list)
    return { byName: new Map<string, unknown>([['a', a]]), set: new Set([b]), byTensor: new Map([[c, 1]]), list }
  })
  assert.is(grown(), (1 + 2 + 3 + 4) * 8)
  const [[c]] = kept.byTensor
  const { d } = kept.list[0] as { d: Tensor }
  for (const t of [kept.byName.get('a') as Tensor, ...kept.set, c, d]) t.dispose()
  assert.is(grown(), 0)
})

test('an instance of a class that holds tensors of the scope is refused, others are not', () => {
  class Holder {
    readonly inner: unknown
    constructor(inner: unknown) {
      this.inner = inner
    }
  }
  mark()
  const wanted =
    'scope: expected tensors in arrays, maps, sets and plain objects, got an instance of Holder that holds some; persist() them'
  assert.throws(() => scope(() => new Holder(tensor64([1]))), wanted)
  assert.throws(() => scope(() => [{ deep: new Holder({ list: [new Map([[1, tensor64([1])]])] }) }]), wanted)
  assert.is(grown(), 0)
  const outside = tensor64([1])
  assert.is(scope(() => new Holder(outside)).inner, outside)
  const { inner } = scope(() => new Holder(square(outside).persist()))
  assert.equal(values(inner as Tensor), [1])
  const [x] = scope(() => {
    const x = tensor64([5])
    return [x, new Holder(x)] as const // x is returned beside it
  })
  assert.equal(values(x), [5])
  assert.ok(scope(() => new Holder(new Float64Array(1e6))).inner instanceof Float64Array)
  for (const t of [outside, inner as Tensor, x]) t.dispose()
  assert.is(grown(), 0)
})

test('a tensor becomes a leaf in place: disposing of it leaves nothing', () => {
  mark()
  const x = tensor([1, 2], { dtype: 'f64', backend: cpu })
  assert.is(x.requireGrad(), x)
  assert.is(x.requireGrad(), x)
  x.dispose()
  assert.is(grown(), 0)
  const result = square(tensor64([3]).requireGrad())
  const leaf = result.requireGrad()
  assert.is.not(leaf, result)
  assert.is(leaf.storage, result.storage)
})

test('handles share memory, which goes with the last of them', () => {
  mark()
  const x = tensor64([1, 2, 3, 4])
  const views = [reshape(x, [2, 2]), x.detach(), x.alias(), x.detach().requireGrad()]
  assert.is(grown(), 32)
  x.dispose()
  x.dispose()
  assert.is(grown(), 32)
  for (const view of views) assert.equal(values(view), [1, 2, 3, 4])
  for (const view of views) view.dispose()
  assert.is(grown(), 0)
})

test('ops that have nothing to do still give a handle of their own', () => {
  mark()
  const x = tensor64([1, 2])
  for (const y of [reshape(x, [2]), slice(x, 0, 0), broadcastTo(x, [2]), concat([x], 0), cast(x, 'f64')]) {
    y.dispose()
    assert.not.ok(x.disposed)
  }
  assert.is(grown(), 16)
  x.dispose()
})

test('use after dispose throws with dtype and shape, whatever the use, and names an op', async () => {
  const x = tensor64([[1, 2, 3]])
  x.dispose()
  const text = /use after dispose of a f64 tensor of shape \[1, 3\]/
  assert.throws(() => add(x, x), text)
  for (const [op, use] of Object.entries({
    add: () => add(tensor64([1]), x),
    matmul: () => matmul(tensor64([[1]]), x),
    concat: () => concat([x, x], 0),
  }))
    assert.throws(use, new RegExp(`^${op}: use after dispose of a f64 tensor of shape \\[1, 3\\]$`))
  assert.throws(() => x.dataSync(), text)
  assert.throws(() => x.detach(), text)
  assert.throws(() => reshape(x, [3]), text)
  assert.throws(() => x.replaceWith(tensor64([[1, 2, 3]])), text)
  try {
    await x.data()
    assert.unreachable()
  } catch (error) {
    assert.match((error as Error).message, text)
  }
  assert.equal([...x.shape], [1, 3]) // still known
})

test('using disposes at the end of the block', () => {
  mark()
  {
    using x = tensor64([1, 2])
    assert.is(grown(), 16)
    assert.equal(values(x), [1, 2])
  }
  assert.is(grown(), 0)
})

test('replaceWith moves memory, and both handles may go', () => {
  mark()
  const [w, next] = [tensor64([1, 2]), tensor64([3, 4])]
  w.replaceWith(next)
  assert.is(grown(), 16)
  next.dispose()
  assert.equal(values(w), [3, 4])
  w.replaceWith(w)
  assert.equal(values(w), [3, 4])
  assert.throws(
    () => w.replaceWith(tensor64([[1, 2]])),
    /replaceWith: expected f64 \[2\] on cpu, got f64 \[1, 2\] on cpu/,
  )
  w.dispose()
})

test('gradients leave leaves alone and no bytes behind', () => {
  leavesNothing(() => {
    const x = tensor64([1, 2]).requireGrad()
    gradients(sum(exp(square(x))), [x])
    assert.is(x.grad, null)
  })
})

test('peak bytes are the most that was held', () => {
  cpu.resetPeak()
  const start = cpu.stats().bytes
  scope(() => {
    for (let i = 0; i < 3; i++) scope(() => void zeros([1000], { dtype: 'f64', backend: cpu }))
  })
  assert.is(cpu.stats().peakBytes - start, 8000)
})

test.run()
