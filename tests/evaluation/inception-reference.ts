/**
 * Makes tests/fixtures/inception: what pytorch-fid's own network gives with the weights that `drawnInception` draws, on two
 * small pictures. Needs Node and a Python with torch, torchvision and pytorch-fid, in DEMASK_PYTHON; the test needs
 * neither: it draws the same weights. Run: DEMASK_PYTHON=python npx tsx tests/evaluation/inception-reference.ts
 */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ready, rng, type Tensor, tensor } from '../../core/index.ts'
import { InceptionV3 } from '../../evaluation/inception.ts'
import { writeSafetensors } from '../../io/safetensors-node.ts'

export const outputs = join(import.meta.dirname, '../fixtures/inception/outputs.safetensors')

export const names = join(import.meta.dirname, '../fixtures/inception/names.txt')

/** Weights on which every layer matters: normal, of a size that keeps activations near 1, with moments off 0 and 1. */
export function drawnInception(): InceptionV3 {
  const random = rng(2015)
  const model = new InceptionV3({ rng: random.fork('weights') })
  const moments = random.fork('moments')
  for (const [name, { shape, size }] of model.stateDict()) {
    if (!/\.bn\.|^fc\.bias$/.test(name)) continue
    const draw = name.endsWith('running_var')
      ? moments.uniformArray(size).map(u => 0.5 + u)
      : moments.normalArray(size).map(z => (name.endsWith('weight') ? 1 + 0.1 * z : 0.1 * z))
    model.loadStateDict(new Map([[name, { shape, data: draw }]]), { strict: false })
  }
  return model
}

/** Two pictures (2, 3, 40, 56) of bytes over 255, in [0, 1]. */
export function drawnPictures(): { readonly data: Float32Array; readonly shape: readonly number[] } {
  const shape = [2, 3, 40, 56]
  const data = Float32Array.from(rng(299).integersArray(0, 256, 2 * 3 * 40 * 56), byte => byte / 255)
  return { data, shape }
}

const program = `
import sys, torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from pytorch_fid import inception
weights = load_file(sys.argv[1])
inception.load_state_dict_from_url = lambda *_, **__: weights
network = inception.fid_inception_v3().eval()
blocks = inception.InceptionV3.__new__(inception.InceptionV3)
inception.fid_inception_v3 = lambda: network
blocks.__init__(output_blocks=(0, 1, 2, 3))
blocks.eval()
kept = {}
network.Mixed_6d.branch1x1.register_forward_hook(lambda module, x, y: kept.update(spatial=y))
with torch.no_grad():
    *_, pool = blocks(load_file(sys.argv[2])['pictures'])
pool = pool[:, :, 0, 0]
spatial = kept['spatial'][:, :7].permute(0, 2, 3, 1).flatten(1)
logits = F.linear(pool, network.fc.weight)
save_file({'pool': pool.contiguous(), 'spatial': spatial.contiguous(), 'logits': logits.detach()}, sys.argv[3])
state = sorted((k, list(v.shape)) for k, v in network.state_dict().items() if not k.endswith('num_batches_tracked'))
open(sys.argv[4], 'w').writelines(f'{name} {shape}\\n' for name, shape in state)
print(sum(p.numel() for p in network.parameters()), 'parameters', pool.abs().mean(), spatial.abs().mean(), logits.std())
`

if (process.argv[1] === import.meta.filename) {
  const backend = await ready()
  const place = mkdtempSync(join(tmpdir(), 'inception-'))
  const paths = ['weights', 'pictures'].map(name => join(place, `${name}.safetensors`))
  const { data, shape } = drawnPictures()
  await writeSafetensors(paths[0], hosted(drawnInception().stateDict()))
  await writeSafetensors(paths[1], hosted(new Map([['pictures', tensor(data, { shape })]])))
  const python = process.env.DEMASK_PYTHON ?? 'python3'
  process.stdout.write(execFileSync(python, ['-c', program, ...paths, outputs, names], { encoding: 'utf8' }))
  rmSync(place, { recursive: true })
  backend.dispose()
}

function hosted(state: ReadonlyMap<string, Tensor>) {
  return new Map(
    Array.from(state, ([name, t]) => [name, { dtype: 'F32' as const, shape: t.shape, data: t.dataSync() }]),
  )
}
