/** No path is waited for: a pipe without a writer, in the place of any file that is read, is refused at once. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { openSource } from '../../cli/evaluate-sets.ts'
import { openDataset, readIndex, readPicture } from '../../data/index.ts'
import { readStatistics } from '../../evaluation/feature-statistics.ts'
import { sha256Of } from '../../io/checksum.ts'
import { wholeText } from '../../io/open-node.ts'
import { openWeights } from '../../io/weights-node.ts'
import { readRows, readState } from '../../training/index-node.ts'
import { readRunFile } from '../../training/readme.ts'
import { loadVae } from '../../training/vae-weights.ts'

const folder = mkdtempSync(join(tmpdir(), 'demask-pipes-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** A path below the folder, where a pipe is. */
function pipe(name: string): string {
  const path = join(folder, name)
  mkdirSync(join(path, '..'), { recursive: true })
  assert.is(spawnSync('mkfifo', [path]).status, 0)
  return path
}

/** A file of MNIST's names: one picture of one pixel. */
const images = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7)

const readers: Readonly<Record<string, () => unknown>> = {
  weights: () => openWeights(pipe('w.safetensors')),
  'config.json beside weights': () => {
    writeFileSync(join(folder, 'diffusion_pytorch_model.safetensors'), Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 123, 125))
    pipe('config.json')
    return openWeights(join(folder, 'diffusion_pytorch_model.safetensors'))
  },
  autoencoder: () => loadVae(join(folder, 'diffusion_pytorch_model.safetensors')),
  'npz:': () => openDataset(`npz:${pipe('a.npz')}`, 4),
  'zip:': () => openDataset(`zip:${pipe('a.zip')}`, 4),
  'idx:': () => openDataset(`idx:${pipe('images.idx')}`, 4),
  'idx: with gzip': () => openDataset(`idx:${pipe('images.gz')}`, 4),
  'labels of idx:': () => {
    writeFileSync(join(folder, 'train-images-idx3-ubyte'), images)
    pipe('train-labels-idx1-ubyte')
    return openDataset(`mnist:${folder}`, 4)
  },
  'cifar10:': () => openDataset(`cifar10:${pipe('cifar/data_batch_1.bin').replace('/data_batch_1.bin', '')}`, 4),
  'names of cifar100:': () => {
    mkdirSync(join(folder, 'cifar100'))
    writeFileSync(join(folder, 'cifar100/train.bin'), new Uint8Array(3074))
    pipe('cifar100/fine_label_names.txt')
    return openDataset(`cifar100:${join(folder, 'cifar100')}`, 4)
  },
  picture: () => readPicture(pipe('picture.png'), 4),
  'a device as a picture': () => {
    symlinkSync('/dev/zero', join(folder, 'zero.png'))
    return readPicture(join(folder, 'zero.png'), 4)
  },
  'index of latents': () => readIndex(pipe('latents/index.json').replace('/index.json', '')),
  'state of a checkpoint': () => readState(pipe('checkpoint-00000001/state.json').replace('/state.json', '')),
  metrics: () => readRows(pipe('metrics.jsonl')),
  statistics: () => readStatistics(pipe('s.safetensors')),
  'pictures to evaluate': () => openSource(pipe('e.npz'), undefined),
  checksum: () => sha256Of(pipe('sum')),
  'a folder': () => wholeText(folder),
}

for (const [name, read] of Object.entries(readers))
  test(name, async () => {
    const error = await Promise.resolve()
      .then(read)
      .then(
        () => null,
        (thrown: Error) => thrown,
      )
    assert.instance(error, Error)
    assert.match(error!.message, /expected .*(got a folder or a device|a pipe or device|a file of the binary version)/)
    assert.not.match(error!.message, /\n/)
  })

test('run.json: as if there were none', () => {
  pipe('run/run.json')
  assert.is(readRunFile(join(folder, 'run')), undefined)
})

test.run()
