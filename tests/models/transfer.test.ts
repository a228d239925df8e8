/**
 * Transfer of weights to models of other classes, another size, and an output with or without variances: a walk over the
 * families, and bicubic interpolation against PyTorch's.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { noGrad, ready, rng, type Tensor } from '../../core/index.ts'
import {
  type DiT,
  dit,
  type Family,
  families,
  type MaskedUViT,
  type MDT,
  maskDM,
  mdt,
  type Pretrained,
  recognise,
  type State,
  type TransferTarget,
  type TransformerOptions,
  transferTable,
  transferWeights,
} from '../../models/index.ts'
import { resizeGrid } from '../../models/resize-grid.ts'
import { type Module, sinCos2d } from '../../nn/index.ts'
import { close, values } from '../near.ts'
import { labelled, make } from './maskdm-models.ts'
import { opened } from './opened.ts'

const wasm = await ready({ threads: 1 })
test.after(() => wasm.dispose())

// ---- PyTorch's interpolation ----------------------------------------------------------------------------------------

interface Case {
  readonly kind: 'positions' | 'bias'
  readonly shape: readonly [S: number, side: number, D: number]
  readonly table: readonly number[]
  readonly resized: readonly number[]
}

const { cases }: { readonly cases: readonly Case[] } = JSON.parse(
  readFileSync(join(import.meta.dirname, '../fixtures/bicubic/cases.json'), 'utf8'),
)

for (const { kind, shape, table, resized } of cases)
  test(`${kind} ${shape.join(' ')}: as PyTorch interpolates`, () => {
    const [S, side, D] = shape
    const grid =
      kind === 'positions' ? resizeGrid(table, S, side) : resizeGrid(table.slice(0, -3 * D), 2 * S - 1, 2 * side - 1)
    close([...grid, ...(kind === 'positions' ? [] : table.slice(-3 * D))], resized, 1e-12)
  })

test('an equal size and a constant table stay as they are', () => {
  const table = rng(1).normalArray(4 * 4 * 3)
  assert.equal([...resizeGrid(table, 4, 4)], [...table])
  close([...resizeGrid(new Float64Array(25).fill(7), 5, 9)], new Array<number>(81).fill(7), 1e-12)
})

// ---- every family ---------------------------------------------------------------------------------------------------

const names = ['a', 'b', 'c']
const small = (family: Family, change: Partial<TransformerOptions> = {}): TransformerOptions => ({
  ...family.options('tiny', { inputSize: 8, inChannels: 3, numClasses: 3 }),
  hiddenSize: 32,
  depth: 4,
  numHeads: 2,
  ...change,
})

/** A model's weights as a file gives them, recognised. */
function pretrained(model: Module, classes?: readonly string[], rows?: number): Pretrained {
  const state: State = new Map(
    Array.from(model.stateDict(), ([name, value]) => [name, { shape: value.shape, data: value.dataSync() }]),
  )
  return { ...recognise(state, 'file', { heads: 2, decoderHeads: 4, classes: rows }), classes }
}

const contents = (model: Module) =>
  new Map(Array.from(model.stateDict(), ([name, value]) => [name, { shape: value.shape, values: values(value) }]))

async function transferred(family: Family, target: TransferTarget, from: Pretrained, seed = 3) {
  const model = family.make(target.options, { rng: rng(seed) })
  const first = contents(model)
  const report = await transferWeights(family, model, target, from)
  const fates = new Map(report.map(tensor => [tensor.name, tensor]))
  return { model, first, after: contents(model), report, fates }
}

const source = (family: Family, change: Partial<TransformerOptions> = {}) =>
  opened(family.make(small(family, change), { rng: null }), rng(2))

/** Names of label tables, and of what else belongs to labels. */
const ofLabels = /(y_embedder\.embedding_table|label_emb)\.weight$/
const ofSize = /pos_embed$|relative_position/

for (const family of families) {
  test(`${family.name}: the same model takes every tensor`, async () => {
    const from = source(family)
    const { after, report } = await transferred(
      family,
      { options: small(family), classes: names },
      pretrained(from, names),
    )
    assert.equal(after, contents(from))
    assert.ok(report.every(({ fate }) => fate === 'taken'))
    const numbers = [...after.values()].reduce((sum, { values }) => sum + values.length, 0)
    assert.equal(transferTable(report), [`  taken     ${after.size} tensors, ${numbers.toLocaleString('en')} numbers`])
  })

  test(`${family.name}: another size resizes positions and nothing else`, async () => {
    const from = source(family)
    const before = contents(from)
    const target = { options: small(family, { inputSize: 16 }) }
    const { model, first, after, fates } = await transferred(family, target, pretrained(from))
    let resized = 0
    for (const [name, { shape, values }] of after) {
      if (!ofSize.test(name)) assert.equal(values, before.get(name)!.values, name)
      else {
        resized++
        assert.is(fates.get(name)!.fate, 'resized', name)
        assert.is.not(shape.join(), before.get(name)!.shape.join())
        const { detail } = fates.get(name)!
        if (detail === 'recomputed') assert.equal(values, first.get(name)!.values, name)
        else {
          assert.match(detail!, /^\d+ → \d+ (positions|offsets), bicubic$/)
          assert.is.not(values.join(), first.get(name)!.values.join(), name)
        }
      }
    }
    assert.ok(resized > 0)
    const request = { seeds: [1], labels: [0], ...family.generation.defaults, steps: 2, clip: true }
    const [picture] = noGrad(() => Array.from(family.generation.generate(model, request), ({ x }) => values(x))).slice(
      -1,
    )
    assert.ok(picture.length === 3 * 16 * 16 && picture.every(Number.isFinite))
  })

  test(`${family.name}: classes are taken by name, by number if there are as many, else new`, async () => {
    const from = source(family)
    const table = [...contents(from)].find(([name]) => ofLabels.test(name))!
    const [name, { values: before, shape }] = table
    /** The vector of class i, in a table of `count` classes. */
    const columns = family.name === 'MaskDiT'
    const D = columns ? shape[0] : shape[1]
    const row = (all: readonly number[], count: number, i: number) =>
      Array.from({ length: D }, (_, d) => all[columns ? d * count + i : i * D + d])
    const hasNull = !columns && shape[0] === 4

    const classes = ['c', 'd', 'a', 'e']
    const byName = await transferred(
      family,
      { options: small(family, { numClasses: 4 }), classes },
      pretrained(from, names),
    )
    const [own, got] = [byName.first, byName.after].map(state => state.get(name)!.values)
    for (const [i, each] of classes.entries()) {
      const had = names.indexOf(each)
      assert.equal(row(got, 4, i), had < 0 ? row(own, 4, i) : row(before, 3, had), each)
    }
    if (hasNull) assert.equal(row(got, 5, 4), row(before, 4, 3), 'the row for no class')
    assert.match(byName.fates.get(name)!.detail!, /^2 of 4 classes taken, the others new/)
    assert.is(byName.fates.get(name)!.fate, 'resized')

    const unnamed = await transferred(family, { options: small(family), classes }, pretrained(from))
    assert.equal(unnamed.after.get(name)!.values, before)
    const others = await transferred(family, { options: small(family, { numClasses: 2 }) }, pretrained(from, names))
    const [fresh, kept] = [others.first, others.after].map(state => state.get(name)!.values)
    for (const i of [0, 1]) assert.equal(row(kept, 2, i), row(fresh, 2, i))
    if (hasNull) assert.equal(row(kept, 3, 2), row(before, 4, 3))
    assert.is(others.fates.get(name)!.fate, 'new')
    for (const [other, { values }] of others.after)
      if (other !== name) assert.equal(values, contents(from).get(other)!.values, other)
  })

  test(`${family.name}: a model without classes, and one with`, async () => {
    const from = source(family)
    const none = { options: small(family, { numClasses: 0, classDropoutProb: 0 }) }
    const { model, fates, report } = await transferred(family, none, pretrained(from, names))
    const table = [...fates.keys()].find(name => ofLabels.test(name))!
    assert.is(fates.get(table)!.fate, 'left out')
    assert.ok(transferTable(report).some(line => line.startsWith(`  left out  ${table}: [`)))
    const back = await transferred(family, { options: small(family), classes: names }, pretrained(model))
    assert.is(back.fates.get(table)!.fate, 'new')
    assert.equal(back.after.get(table), back.first.get(table))
  })

  test(`${family.name}: what transfer cannot change is refused in words, and leaves the model as it was`, async () => {
    const from = pretrained(source(family))
    const wrong: readonly (readonly [Partial<TransformerOptions>, string])[] = [
      [{ patchSize: 4 }, 'a patch size of 4, got a patch size of 2'],
      [{ inChannels: 4 }, 'channels 4, got channels 3'],
      [{ hiddenSize: 64, numHeads: 4 }, 'a width of 64, heads 4, got a width of 32, heads 2'],
      [{ numHeads: 4 }, 'heads 4, got heads 2'],
    ]
    for (const [change, message] of wrong) {
      const model = family.make(small(family, change), { rng: rng(4) })
      const before = contents(model)
      await rejects(
        transferWeights(family, model, { options: small(family, change) }, from),
        `transferWeights: expected ${family.name} weights with ${message}`,
      )
      assert.equal(contents(model), before)
    }
    const other = families.find(each => each !== family)!
    await rejects(
      transferWeights(other, other.make(small(other), { rng: null }), { options: small(other) }, from),
      `transferWeights: expected weights of ${other.name}, got those of ${family.name}`,
    )
  })
}

async function rejects(promise: Promise<unknown>, message: string): Promise<void> {
  try {
    await promise
  } catch (error) {
    assert.ok(error instanceof RangeError)
    assert.is((error as Error).message, message)
    return
  }
  assert.unreachable(`expected: ${message}`)
}

// ---- what is special ------------------------------------------------------------------------------------------------

const pictures = () => rng(5).normal([2, 3, 8, 8])

for (const [family, network] of [
  [dit, (model: Module, y: number[] | null) => (model as DiT).forward(pictures(), [10, 500], y)],
  [mdt, (model: Module, y: number[] | null) => (model as MDT).forward(pictures(), [10, 500], y)],
] as readonly (readonly [Family, (model: Module, y: number[] | null) => Tensor])[]) {
  const epsilon = (output: number[]) => {
    const channels = output.length / (2 * 64)
    return output.filter((_, i) => Math.floor(i / 64) % channels < 3)
  }

  test(`${family.name}: ε stays the same with variances or without, which begin at 0 or are left out`, async () => {
    const [plain, learned] = [small(family, { learnSigma: false }), small(family)]
    const from = source(family, { learnSigma: false })
    const { model, fates } = await transferred(family, { options: learned }, pretrained(from))
    const before = noGrad(() => values(network(from, [0, 2])))
    const after = noGrad(() => values(network(model, [0, 2])))
    assert.is(after.length, 2 * before.length)
    assert.equal(epsilon(after), before)
    assert.ok(after.filter((_, i) => Math.floor(i / 64) % 6 >= 3).every(v => v === 0))
    assert.is(fates.get('final_layer.linear.weight')!.detail, 'ε taken, variances new')
    const back = await transferred(family, { options: plain }, pretrained(source(family)))
    assert.equal(
      noGrad(() => values(network(back.model, [0, 2]))),
      epsilon(noGrad(() => values(network(source(family), [0, 2])))),
    )
    assert.is(back.fates.get('final_layer.linear.bias')!.detail, 'ε taken, variances left out')
  })

  test(`${family.name}: without classes it predicts what the weights predict without a label`, async () => {
    const from = source(family)
    const none = { options: small(family, { numClasses: 0, classDropoutProb: 0 }) }
    const { model, report } = await transferred(family, none, pretrained(from))
    const [got, wanted] = [model, from].map(each => noGrad(() => values(network(each, null))))
    close(got, wanted, 2e-5)
    assert.ok(transferTable(report).some(line => /^ {2}taken {5}t_embedder\.mlp\.2\.bias: with the row/.test(line)))
  })
}

test("weights without a row for 'no class': that row is new", async () => {
  const from = source(dit, { classDropoutProb: 0 })
  const { fates, first, after } = await transferred(dit, { options: small(dit) }, pretrained(from, undefined, 3))
  const table = 'y_embedder.embedding_table.weight'
  assert.is(fates.get(table)!.detail, "the row for 'no class' new")
  const [own, got] = [first, after].map(state => state.get(table)!.values)
  assert.equal(got.slice(0, 96), contents(from).get(table)!.values)
  assert.equal(got.slice(96), own.slice(96))
})

test('DiT: positions of another size are the sinusoids of that size', async () => {
  const target = { options: small(dit, { inputSize: 16 }) }
  const { model } = await transferred(dit, target, pretrained(source(dit)))
  close(values((model as DiT).pos_embed), [...sinCos2d(32, [8, 8])], 1e-6)
})

test('MDT: positions and bias tables of another size are interpolated', async () => {
  const from = source(mdt) as MDT
  const target = { options: small(mdt, { inputSize: 16 }) }
  const { model, report } = await transferred(mdt, target, pretrained(from))
  const to = model as MDT
  for (const name of ['pos_embed', 'decoder_pos_embed'] as const)
    close(values(to[name]), [...resizeGrid(values(from[name]), 4, 8)], 1e-5)
  const [before, after] = [from, to].map(({ sideblocks }) =>
    values(sideblocks.items[0].attn.rel_pos_bias!.relative_position_bias_table),
  )
  close(after, [...resizeGrid(before.slice(0, 98), 7, 15), ...before.slice(98)], 1e-5)
  assert.equal(transferTable(report).slice(1, 3), [
    '  resized   pos_embed: 16 → 64 positions, bicubic',
    '  resized   decoder_pos_embed: 16 → 64 positions, bicubic',
  ])
  assert.match(
    transferTable(report).join('\n'),
    /\n {2}resized {3}blocks\.\*\.attn\.rel_pos_bias\.relative_position_bias_table \(4\): 49 → 225 offsets, bicubic\n/,
  )
})

test('MDT: tables that are no square of offsets are refused', async () => {
  const from = pretrained(source(mdt))
  const name = 'blocks.0.attn.rel_pos_bias.relative_position_bias_table'
  const state = new Map(from.state).set(name, { shape: [50, 2], data: new Float32Array(100) })
  const model = mdt.make(
    { ...mdt.options('tiny', { inputSize: 8, inChannels: 3, numClasses: 3 }), ...small(mdt) },
    { rng: null },
  )
  await rejects(
    transferWeights(mdt as unknown as Family, model, { options: small(mdt as unknown as Family) }, { ...from, state }),
    `transferWeights: expected MDT weights with ${name} [52, 2], got [50, 2]`,
  )
})

test('MaskDM: the tokens of label and time keep their positions', async () => {
  const D = 16
  const row = (model: MaskedUViT, i: number) => values(model.encoder.encoder_pos_embed).slice(i * D, (i + 1) * D)
  const load = async (model: MaskedUViT, from: MaskedUViT) =>
    transferWeights(maskDM, model, { options: model.options }, pretrained(from))
  const from = make(labelled, 22)
  const sixteen = { ...labelled, inputSize: 16 }

  const larger = make(sixteen, 23)
  await load(larger, from)
  assert.equal([row(larger, 0), row(larger, 1)], [row(from, 0), row(from, 1)])
  const patches = (model: MaskedUViT, E = 2) => values(model.encoder.encoder_pos_embed).slice(E * D)
  close(patches(larger), [...resizeGrid(patches(from), 4, 8)], 1e-12)

  const none = make({ ...labelled, numClasses: 0 }, 25)
  await load(none, from)
  assert.equal(values(none.encoder.encoder_pos_embed), values(from.encoder.encoder_pos_embed).slice(D)) // all but the label's
  const back = make(labelled, 26)
  const [label, token] = [row(back, 0), values(back.encoder.uncond_embed!)]
  const report = await load(back, none)
  assert.equal([row(back, 0), values(back.encoder.uncond_embed!)], [label, token])
  assert.equal(patches(back), patches(none, 1))
  assert.ok(transferTable(report).includes("  resized   encoder.encoder_pos_embed: the label's new"))
})

test.run()
