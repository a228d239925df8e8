/**
 * A small network learns which part of a Swiss roll a point is on: model, loss, backward, optimizer step, in a visible
 * loop, and a picture of what it learned. Run: npx tsx examples/02-mlp.ts.
 */

import { mkdirSync } from 'node:fs'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { backward, crossEntropy, geluTanh, noGrad, ready, rng, scope, tensor } from '../core/index.ts'
import { Activation, AdamW, Linear, Sequential } from '../nn/index.ts'
import { writeScatter } from '../training/index-node.ts'
import { swissRoll } from './swiss-roll.ts'

const classes = 6

await main(async () => {
  const { steps, out } = readFlags({
    command: 'npx tsx examples/02-mlp.ts',
    about: 'Fits a Swiss roll and draws what was learned.',
    flags: {
      steps: { type: 'integer', min: 1, default: 500, about: 'optimizer steps' },
      out: { type: 'text', value: 'DIR', default: 'runs/02-mlp', about: 'where the picture goes' },
    },
    examples: [['--steps 200', 'see it half done']],
  })
  await ready()
  const random = rng(1)
  const model = mlp([2, 64, 64, classes])
  const optimizer = new AdamW(model.namedParameters(), { lr: 3e-3, weightDecay: 0 })

  for (let step = 0; step < steps; step++) {
    const { points, labels } = labelled(256)
    const loss = scope(() => {
      const logits = model.forward(tensor(points, { shape: [256, 2] })) // (N, classes)
      const loss = crossEntropy(logits, tensor(labels, { dtype: 'i32' }))
      backward(loss)
      optimizer.step()
      optimizer.zeroGrad()
      return loss.detach()
    })
    if (step % 100 === 0 || step === steps - 1) console.log(`step ${step + 1}  loss ${(await loss.item()).toFixed(4)}`)
    loss.dispose()
  }

  const test = labelled(2000)
  const right = (await predict(test.points)).filter((label, i) => label === test.labels[i]).length
  console.log(`accuracy on 2,000 new points: ${((100 * right) / 2000).toFixed(1)} %`)

  const side = 80 // the plane, point by point
  const plane = Float32Array.from({ length: 2 * side * side }, (_, i) => {
    const at = i % 2 === 0 ? (i / 2) % side : Math.floor(i / 2 / side)
    return (4.4 * at) / (side - 1) - 2.2
  })
  mkdirSync(out, { recursive: true })
  await writeScatter(`${out}/swiss-roll.png`, [
    { title: 'the roll, in six parts', points: test.points, classes: test.labels },
    { title: 'what the network says of the plane', points: plane, classes: await predict(plane) },
  ])
  console.log(`${out}/swiss-roll.png`)

  function mlp(widths: readonly number[]): Sequential {
    const layers = widths.slice(1).map((width, i) => new Linear(widths[i], width, { rng: random.fork(`layer ${i}`) }))
    return new Sequential(layers.flatMap((layer, i) => (i === 0 ? [layer] : [new Activation(geluTanh), layer])))
  }

  function labelled(count: number): { points: Float32Array; labels: Int32Array } {
    const { points, along } = swissRoll(count, 0.04, random)
    return { points, labels: Int32Array.from(along, u => Math.floor(classes * u)) }
  }

  async function predict(points: Float32Array): Promise<Int32Array> {
    const N = points.length / 2
    const logits = noGrad(() => scope(() => model.forward(tensor(points, { shape: [N, 2] })))) // (N, classes)
    const values = await logits.data()
    logits.dispose()
    return Int32Array.from({ length: N }, (_, n) => {
      const row = values.subarray(n * classes, (n + 1) * classes)
      return row.indexOf(Math.max(...row))
    })
  }
})
