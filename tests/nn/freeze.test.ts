/** Frozen parameters: which names a pattern matches, and that nothing of training reaches them. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, cpu, mean, rng, scope, square, sum, tensor } from '../../core/index.ts'
import { AdamW, constantDecay, Ema, freezeParameters, type Init, Linear, Module, ModuleList } from '../../nn/index.ts'
import { values } from '../near.ts'

const init: Init = { rng: rng(1), backend: cpu }

class Net extends Module {
  readonly embed = new Linear(2, 3, init)
  readonly blocks = new ModuleList(Array.from({ length: 12 }, () => new Linear(3, 3, init)))
}

const frozenBy = (...patterns: string[]) => freezeParameters(new Net(), patterns).join(' ')

test('a pattern is a name, a module, or a glob of these', () => {
  assert.is(frozenBy('embed.bias'), 'embed.bias')
  assert.is(frozenBy('embed'), 'embed.weight embed.bias')
  assert.is(frozenBy('blocks.1'), 'blocks.1.weight blocks.1.bias', 'not blocks.10 and blocks.11')
  assert.is(frozenBy('blocks.1.'), 'blocks.1.weight blocks.1.bias')
  assert.is(frozenBy('blocks.1?'), 'blocks.10.weight blocks.10.bias blocks.11.weight blocks.11.bias')
  assert.is(freezeParameters(new Net(), ['*.bias']).length, 13)
  assert.is(freezeParameters(new Net(), ['blocks.*']).length, 24)
  assert.is(frozenBy('embed.bias', 'blocks.3.weight', 'embed'), 'embed.weight embed.bias blocks.3.weight')
  assert.is(frozenBy(), '')
})

test('a pattern that matches nothing is refused, and then nothing is frozen', () => {
  const net = new Net()
  for (const pattern of ['', 'bias', 'blocks.12', 'embed.b', 'e.bed', 'blocks.1+', '(', '*.weights'])
    assert.throws(
      () => freezeParameters(net, ['embed', pattern]),
      `freezeParameters: expected the name or a glob of parameters below embed, blocks, got '${pattern}'`,
    )
  assert.is(net.countParameters().trainable, net.countParameters().total)
})

test('a frozen parameter gets no gradient, no moments, no decay and no step; the average has it', () => {
  const net = new Net()
  net.embed.bias!.grad = tensor([1, 1, 1], { backend: cpu })
  freezeParameters(net, ['embed', 'blocks.0.weight'])
  const before = values(net.embed.weight)
  assert.equal(net.countParameters(), { total: 9 + 12 * 12, trainable: 12 * 12 - 9, buffers: 0 })
  assert.is(net.parameters().length, 23)
  assert.is(net.embed.bias!.grad, null)
  const ema = new Ema(net, new Net(), { decay: constantDecay(0.5) })
  const optimizer = new AdamW(net.namedParameters(), { lr: 0.1, weightDecay: 0.5 })
  for (let step = 0; step < 3; step++) {
    const x = tensor([1, 2, 3, 4], { shape: [2, 2], backend: cpu })
    const h = net.blocks.items[0].forward(net.embed.forward(x))
    backward(scope(() => mean(square(h))))
    assert.is(net.embed.weight.grad, null)
    assert.is(net.blocks.items[0].weight.grad, null)
    assert.ok(net.blocks.items[0].bias!.grad)
    ema.update(optimizer.step().finite)
    optimizer.zeroGrad()
  }
  assert.equal(values(net.embed.weight), before)
  assert.equal(values(ema.average.embed.weight), before)
  assert.equal(
    [...optimizer.stateDict().keys()].filter(name => /embed|0\.weight/.test(name)),
    [],
  )
  assert.ok([...optimizer.stateDict().keys()].includes('exp_avg.blocks.0.bias'))
})

test('requireGrad(false) makes a leaf a constant, and leaves the result of an op what it is', () => {
  const x = tensor([1, 2], { backend: cpu }).requireGrad()
  const y = sum(square(x))
  assert.is(y.requireGrad(false).requiresGrad, false)
  assert.ok(y.requiresGrad)
  backward(y)
  assert.equal(values(x.grad!), [2, 4])
  assert.is(x.requireGrad(false), x)
  assert.equal([x.requiresGrad, x.grad], [false, null])
  assert.is(square(x).requiresGrad, false)
  assert.ok(x.requireGrad().requiresGrad)
})

test.run()
