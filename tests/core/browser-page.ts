/**
 * The program that browser.test.ts runs in a page and in Node: kernels launched in the same tick as the workers' creation, and steps
 * of MDT-tiny on one batch, on wasm and on WebGPU. Only what runs in both is used here.
 */

import type { GpuBackend } from '../../core/backends/gpu/index.ts'
import type { WasmBackend } from '../../core/backends/wasm/index.ts'
import {
  backward,
  gelu,
  layerNorm,
  linear,
  mean,
  ready,
  rng,
  scope,
  selfAttention,
  softmax,
  stack,
  sum,
} from '../../core/index.ts'
import { gaussianDiffusion, linearBetas } from '../../diffusion/index.ts'
import { MDT, type MDTOptions, mdtPreset, passLoss, sampleMDTInputs } from '../../models/index.ts'
import { AdamW } from '../../nn/index.ts'

export interface Report {
  readonly threads: number
  readonly build: string
  /** SHA-256 of the bytes of each kernel's result. */
  readonly digests: Readonly<Record<string, string>>
  /** Of each training step. */
  readonly losses: readonly number[]
  /** Threads that have joined in at the end, the main one left out. */
  readonly workers: number
}

const steps = 5

/** Runs all of it, on as many threads as the page allows; the model is MDT-tiny with the options `changed`. */
export async function run(threads: number, changed: Partial<MDTOptions> = {}): Promise<Report> {
  const backend = (await ready({ backend: 'wasm', threads })) as WasmBackend
  const results = kernels()
  const losses = await train(changed)
  await new Promise(resolve => setTimeout(resolve, 100))
  const digests: Record<string, string> = {}
  for (const [name, bytes] of Object.entries(results)) digests[name] = await digestOf(bytes)
  // kernels/threads.as.ts counts them there.
  const report = {
    threads: backend.threads,
    build: backend.build,
    digests,
    losses,
    workers: backend.runtime.ints(256, 1)[0],
  }
  backend.dispose()
  return report
}

/** The same training on WebGPU or WebGL 2: which device, and the losses. */
export async function runOnGpu(
  device: 'webgpu' | 'webgl2',
  changed: Partial<MDTOptions> = {},
): Promise<{ readonly about: string; readonly losses: readonly number[] }> {
  const backend = (await ready({ backend: `gpu:${device}` })) as GpuBackend
  const losses = await train(changed)
  backend.dispose()
  return { about: backend.device.about, losses }
}

/** The bytes that some kernels give. */
function kernels(): Record<string, Uint8Array<ArrayBuffer>> {
  const random = rng(3)
  const results: Record<string, Uint8Array<ArrayBuffer>> = {}
  scope(() => {
    const x = random.normal([4, 64, 96])
    const w = random.normal([288, 96])
    const qkv = linear(x, w)
    const found = {
      normal: x,
      linear: qkv,
      layerNorm: layerNorm(x, null, null, 1e-6),
      softmax: softmax(x),
      gelu: gelu(qkv),
      selfAttention: selfAttention(qkv, null, 3),
      sum: sum(x, [0, 1]),
    }
    for (const [name, y] of Object.entries(found))
      results[name] = new Uint8Array((y.dataSync() as Float32Array<ArrayBuffer>).buffer)
  })
  return results
}

async function digestOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('')
}

/** Steps on one batch, with the same noise, timesteps and mask each time, so that the loss must fall. */
async function train(changed: Partial<MDTOptions>): Promise<number[]> {
  const random = rng(5)
  const N = 4
  const tiny = mdtPreset('tiny', { inputSize: 16, inChannels: 3, numClasses: 0 })
  const model = new MDT({ ...tiny, ...changed }, { rng: random.fork('weights') })
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-3 })
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000) })
  const x0 = random.normal([N, 3, 16, 16])
  const t = random.integersArray(1, diffusion.steps, N)
  const losses: number[] = []
  for (let step = 0; step < steps; step++) {
    const report = scope(() => {
      const { full, masked } = sampleMDTInputs(model, x0, null, random.fork('passes'))
      const terms = [full, masked].map(pass => {
        const loss = mean(passLoss(model, diffusion, x0, t, pass).loss)
        backward(loss)
        return loss
      })
      optimizer.step()
      optimizer.zeroGrad()
      return sum(stack(terms, 0))
    })
    losses.push(await report.item())
    report.dispose()
  }
  optimizer.dispose()
  model.dispose()
  x0.dispose()
  return losses
}
