/**
 * Parts of the playground's pages, in Node: the expression page, and the studio, whose files come from a fetch that
 * can fail. In a browser: site.test.ts. Skipped where the site's dependencies were not installed; its types are checked
 * with the site's, for the same reason.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ways } from '../../bench/product.ts'
import { cpu, profile, rng, scope, type Tensor } from '../../core/index.ts'
import { openEmoji } from '../../data/emoji.ts'
import { tokenMask } from '../../diffusion/masking.ts'
import { MaskDiT, MaskedUViT, MDT, maskDiTPreset, maskdmPreset, mdtPreset } from '../../models/index.ts'
import { layoutGraph } from '../../site/playground/graph-layout.ts'
import { maskDiTCost, maskDMCost, mdtCost } from '../../site/playground/masking-cost.ts'
import type { Progress, Studio } from '../../site/playground/studio.ts'
import { root } from '../../site/regions.ts'
import { read } from '../repo/markdown.ts'

const installed = existsSync(join(root, 'site/node_modules/comlink'))
const onSite = installed ? test : test.skip

let broken = false
/** The files of the site, as site/playground/assets.ts writes them. */
async function siteFile(address: string): Promise<Response> {
  if (broken) return new Response(null, { status: 503, statusText: 'Service Unavailable' })
  if (address.endsWith('.safetensors')) return new Response(readFileSync(join(root, 'docs/public', address)))
  const { length, size, classes, label, pixels } = await openEmoji('smileys', 16)
  const pictures = await Promise.all(Array.from({ length }, (_, i) => pixels(i)))
  if (address.endsWith('.bin')) return new Response(Buffer.concat(pictures))
  return Response.json({ size, classes, labels: pictures.map((_, i) => label(i)) })
}

/** A studio of its own for a test, closed after it. */
function withStudio(work: (studio: Studio) => Promise<void>): () => Promise<void> {
  return async () => {
    Object.assign(globalThis, { crossOriginIsolated: true, fetch: siteFile })
    const studio = new (await import('../../site/playground/studio.ts')).Studio()
    try {
      await work(studio)
    } finally {
      await studio.close()
    }
  }
}

/** Trains until a step was made, then pauses, and does not wait for the end. */
function trainOneStep(studio: Studio, seen: Progress[], batch: number): Promise<void> {
  return studio.train(progress => seen.push(progress) && studio.pause(), { batch })
}

onSite('an expression calls the functions of the page, and no others that an object has', async () => {
  const { evaluate } = await import('../../site/playground/expression.ts')
  for (const name of ['constructor', 'toString', 'valueOf', '__proto__'])
    assert.throws(() => evaluate(`${name}(a)`, { a: [1, 2] }), new RegExp(`^${name}: expected one of add, sub`))
  for (const a of [null, true, 'x', { x: 1 }])
    assert.throws(() => evaluate('a', { a: a as never }), /^tensor: expected /, JSON.stringify(a))
  assert.equal(evaluate('square(a)', { a: [1, 2] })[1].values, [1, 4])
})

onSite('backward, step by step, ends at the gradients; a value that is read twice receives twice', async () => {
  const { backwardSteps, evaluate, variablesOf } = await import('../../site/playground/expression.ts')
  assert.equal(variablesOf('sum(w * sin(w)) + matmul(x, x)'), ['w', 'x'])
  for (const [text, operands] of [
    ['sum(a * sin(b))', { a: [1, 2, 3], b: [[0.5], [1]] }],
    ['a * a + exp(a * 2)', { a: [0.3, -1] }],
  ] as const) {
    const nodes = evaluate(text, operands as never)
    const steps = backwardSteps(nodes)
    for (const { id, name, gradient } of nodes)
      for (const [i, g] of gradient.entries())
        assert.ok(Math.abs(steps.at(-1)!.received[id]![i] - g) <= 1e-12, `${text}: ${name}`)
    assert.is(steps.at(-1)!.complete.size, nodes.length)
    assert.is(steps[0].received.filter(g => g !== null).length, 1)
  }
})

test('edges of the graph pass no box', () => {
  const graph = [[], [], [0, 1], [2], [3, 0], [4, 1], [5, 2], [], [6, 7], [8, 0]]
  const boxes = graph.map((inputs, id) => ({ id, inputs, height: 60 + 20 * (id % 3) }))
  const [width, gap] = [100, 40]
  const { places, edges, height } = layoutGraph(boxes, { width, gap })
  for (const { id, y } of places) assert.ok(y >= 0 && y + boxes[id].height <= height)
  for (const { from, to, points } of edges) {
    assert.ok(places[from].x + width <= places[to].x, 'edges lead to the right')
    // Straight runs through the columns between; the curves stay in the gaps.
    for (let i = 1; i + 1 < points.length; i += 2) {
      const [[x, y], [end]] = [points[i], points[i + 1]]
      assert.is(end - x, width)
      const hit = places.find(p => p.x === x && y > p.y - 1 && y < p.y + boxes[p.id].height + 1)
      assert.is(hit, undefined, `${from} → ${to} passes ${hit?.id}`)
    }
    for (let i = 0; i < points.length; i += 2) assert.is(points[i + 1][0] - points[i][0], gap)
  }
})

onSite(
  'calls of open at once open one backend',
  withStudio(async studio => {
    const [one, other] = await Promise.all([studio.open('/'), studio.open('/')])
    assert.is(one, other)
    assert.is(await studio.open('/', 'wasm'), one)
  }),
)

onSite(
  'a training that is left is told to the next page, and goes on',
  withStudio(async studio => {
    await studio.open('/')
    assert.is(await studio.run(), null)
    const seen: Progress[] = []
    void trainOneStep(studio, seen, 2)
    await studio.open('/')
    const run = await studio.run()
    assert.equal(run, { batch: 2, losses: [seen[0].full], last: seen[0] })
    await trainOneStep(studio, seen, 2)
    assert.equal((await studio.run())!.losses, [seen[0].full, seen[1].full])
    assert.is(seen[1].step, 2)

    await studio.close()
    assert.is(await studio.run(), null)
  }),
)

onSite(
  'paused, and begun again within the step: the first loop ends, the second goes on where it was',
  withStudio(async studio => {
    await studio.open('/')
    const seen: string[] = []
    let [first, second] = [Promise.resolve(), Promise.resolve()]
    await new Promise<void>(resolve => {
      first = studio.train(({ step }) => void (seen.push(`first ${step}`) && resolve()), { batch: 2 })
    })
    await new Promise(resolve => setTimeout(resolve, 0)) // it is in its second step, or after it
    studio.pause()
    second = studio.train(({ step }) => {
      seen.push(`second ${step}`)
      if (step >= 5) studio.pause()
    })
    await Promise.all([first, second])
    assert.equal(
      seen.map(line => Number(line.split(' ')[1])),
      seen.map((_, i) => i + 1),
    )
    assert.ok(
      seen.slice(2).every(line => line.startsWith('second')),
      seen.join(', '),
    )
  }),
)

onSite(
  'samples of a running training, and a reset',
  withStudio(async studio => {
    await studio.open('/')
    const steps: number[] = []
    const onSamples = (step: number, pictures: Uint8ClampedArray[]) => {
      steps.push(step)
      assert.equal([pictures.length, pictures[0].length], [6, 4 * 16 * 16])
      assert.ok(pictures.every(rgba => rgba.some(byte => byte !== 0 && byte !== 255)))
      studio.pause()
    }
    await studio.train(() => {}, { batch: 2, sampleEvery: 2 }, onSamples)
    assert.equal(steps, [2])
    await studio.reset()
    assert.is(await studio.run(), null)
  }),
)

onSite(
  'a file that could not be fetched is fetched again',
  withStudio(async studio => {
    await studio.open('/')
    broken = true
    const error = /smileys\.json: 503 Service Unavailable$/
    for (const failing of [() => studio.smileys(), () => studio.look(3, 300, 0)])
      await failing().then(
        () => assert.unreachable(),
        reason => assert.match(reason.message, error),
      )
    broken = false
    assert.is((await studio.smileys()).size, 16)
    assert.is((await studio.look(3, 300, 0)).tokens, 64)
  }),
)

test('each interactive figure of a page has a picture for GitHub, and each kind a page of its own', () => {
  const kinds = [...read('site/components/Widget.vue').matchAll(/^ {2}(\w+): \(\) => import\(/gm)].map(
    ([, kind]) => kind,
  )
  assert.ok(kinds.length >= 8, kinds.join(' '))
  const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter(
    name => name.endsWith('.md') && !name.startsWith('reference'),
  )
  const [shown, large] = [new Set<string>(), new Set<string>()]
  for (const page of pages)
    for (const [figure, kind, open] of read(`docs/${page}`).matchAll(
      /<Widget name="(\w+)"[^>]*?( open \/)?>(?:.*?<\/Widget>)?/gs,
    )) {
      assert.ok(kinds.includes(kind), `${page}: ${kind}`)
      if (open !== undefined) {
        assert.is(page, `playground/${kind}.md`)
        large.add(kind)
        continue
      }
      shown.add(kind)
      const picture = /^<Widget [^>]*>\n\n!\[[^\]]{20,}\]\(([^)]+)\)\n\n<\/Widget>$/.exec(figure)?.[1]
      assert.ok(picture !== undefined, `${page}: ${figure}`)
      assert.ok(existsSync(join(root, 'docs', dirname(page), picture)), `${page}: ${picture}`)
    }
  assert.equal([...shown].sort(), [...kinds].sort())
  assert.equal([...large].sort(), [...kinds].sort())
})

test('recorded speeds of a product are those of the ways that are measured', () => {
  const { backends } = JSON.parse(read('docs/tour/figures/measurements.json'))
  const names = ways.map(({ name }) => name)
  assert.equal(
    backends.gflops.map(([name]: [string]) => name),
    names,
  )
  for (const name of [...Object.keys(backends.devices), ...Object.keys(backends.shareOfCeiling)])
    assert.ok(names.includes(name), name)
})

/** Operations of a pass that masking-cost.ts counts. */
function products(pass: () => Tensor): number {
  const rows = profile(() => void scope(pass).dispose())
  return rows.filter(({ op }) => /^(linear|matmul|selfAttention)$/.test(op)).reduce((sum, { flops }) => sum + flops, 0)
}

test('the shares of the masks page are those of the products of the models', () => {
  const [K, T, random] = [16, 64, rng(0)]
  const init = { rng: random, backend: cpu }
  const pictures = { inputSize: 16, inChannels: 3, numClasses: 0 }
  const mask = tokenMask(random.uniformArray(T), [1, T], 1 - K / T, { backend: cpu })
  const x = random.normal([1, 3, 16, 16], { backend: cpu })

  const mdt = new MDT(mdtPreset('tiny', pictures), init)
  const maskDiT = new MaskDiT(maskDiTPreset('tiny', pictures), init)
  const encoder = new MaskDiT({ ...maskDiT.options, decoder: null, maeLossCoef: 0 }, init)
  const maskDM = new MaskedUViT(maskdmPreset('tiny').network, init)
  for (const [{ share, what }, masked, full] of [
    [mdtCost(mdt.options, K, T), () => mdt.forward(x, [5], null, mask), () => mdt.forward(x, [5])],
    [maskDiTCost(maskDiT.options, K, T), () => maskDiT.forward(x, [5], null, mask), () => encoder.forward(x, [5])],
    [maskDMCost(maskDM.options, K, T), () => maskDM.patches(x, [5], null, mask), () => maskDM.forward(x, [5])],
  ] as const) {
    const counted = products(masked) / products(full)
    assert.ok(Math.abs(share - counted) < 0.02, `${what}: ${share}, of the model itself ${counted}`)
  }
})

test.run()
