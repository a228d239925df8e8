/** Constructors of layers and optimizers answer wrong calls in one line that begins with their name. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, rng } from '../../core/index.ts'
import * as nn from '../../nn/index.ts'
import { floats, type RightCall, testCalls } from '../core/wrong-calls.ts'

const init = () => ({ rng: rng(0), dtype: 'f32', backend: cpu })
const parameters = () => [['w', floats(2).requireGrad()]]
const weight = nn.constantZero

/** Arguments of a right constructor call, and the wrong ones that are right. */
const calls: Record<string, readonly [args: () => readonly unknown[], accepts?: readonly string[]]> = {
  Activation: [() => [(x: unknown) => x]],
  Attention: [() => [4, 2, init(), { grid: [2, 2], weight }]],
  BatchNorm: [() => [3, init(), { eps: 0.5, momentum: 0.5, affine: true, countsBatches: true }]],
  Conv1d: [() => [2, 3, 3, init(), { stride: 1, padding: 1, weight, bias: weight }]],
  Dropout: [() => [0.5]],
  MultiHeadAttention: [() => [4, 2, init(), { bias: true, kdim: 4, vdim: 4 }]],
  RMSNorm: [() => [3, init(), { eps: 0.5, affine: true }]],
  Conv2d: [() => [2, 3, 3, init(), { stride: 1, padding: 1, weight, bias: weight }]],
  Embedding: [() => [5, 3, init(), weight], ['3 undefined']],
  GroupNorm: [() => [2, 4, init(), { eps: 0.5 }]],
  LabelEmbedder: [() => [5, 3, 0.5, init()]],
  LayerNorm: [() => [3, init(), { eps: 0.5, affine: true }]],
  Linear: [() => [2, 3, init(), { weight, bias: weight }]],
  Mlp: [() => [2, 3, init(), { activation: (x: unknown) => x, weight }]],
  Modulation: [() => [2, 3, 2, init()]],
  PatchEmbed: [() => [2, 3, 4, init(), { weight, bias: weight }]],
  RelativePositionBias: [() => [[2, 2], 2, init()]],
  TimestepEmbedder: [() => [4, init(), 8]],
}

const optimizers: typeof calls = {
  adamW: [
    () => [parameters(), { lr: 0.5, betas: [0.5, 0.5], eps: 0.5, weightDecay: 0.5, amsgrad: true, maximize: true }],
  ],
  adan: [() => [parameters(), { lr: 0.5, betas: [0.5, 0.5, 0.5], eps: 0.5, weightDecay: 0.5, decay: 'after' }]],
  sgd: [
    () => [parameters(), { lr: 0.5, momentum: 0.5, dampening: 0, nesterov: true, weightDecay: 0.5, maximize: true }],
  ],
}

/** A constructor as a function that needs as many arguments. */
function maker(make: unknown): RightCall['call'] {
  const call = (...args: unknown[]) => Reflect.construct(make as new () => unknown, args)
  return Object.defineProperty(call, 'length', { value: (make as { length: number }).length })
}

const rightCalls = (rows: typeof calls, classOf: (name: string) => unknown): [string, RightCall][] =>
  Object.entries(rows).map(([name, [args, accepts]]) => [name, { call: maker(classOf(name)), args, accepts }])

const named = nn as unknown as Readonly<Record<string, unknown>>
const classes: Record<string, unknown> = { adamW: nn.AdamW, adan: nn.Adan, sgd: nn.Sgd }

testCalls(
  test,
  Object.fromEntries([...rightCalls(calls, name => named[name]), ...rightCalls(optimizers, name => classes[name])]),
)

/** Base classes, containers of modules, AdamW without its decay, and what makes the parameters themselves. */
const unchecked = new Set([
  'Adam',
  'AdamW',
  'Adan',
  'Ema',
  'Layer',
  'Module',
  'ModuleList',
  'Optimizer',
  'Sequential',
  'Sgd',
  'StateTensor',
])

test('every layer has a right call', () => {
  const made = Object.entries(nn).filter(([, value]) => /^class\b/.test(String(value)))
  const missing = made.map(([name]) => name).filter(name => !(name in calls || unchecked.has(name)))
  assert.equal(missing, [])
})

test.run()
