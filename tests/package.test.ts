/**
 * The shape of the whole: folders import only from those before them, what must run in a browser imports nothing of
 * Node, and the package that is built works under the names it is published with. Needs Node.
 */

import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { read, root } from './markdown.ts'

const layers = ['core', 'nn', 'diffusion', 'models', 'examples', 'cli']
/** Folders that need Node, and files that say so. */
const needsNode =
  /^(diffusion\/(data|training)\/|examples\/|cli\/|core\/([\w-]+-node|backends\/wasm\/(host-node|build))\.ts$)/

const files = layers.flatMap(folder =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map(name => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter(path => path.endsWith('.ts') && !path.endsWith('.as.ts') && !path.includes('/generated/')),
)

const importing = /^(?:(?:import|export) [^'\n]*|\} )from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm

/** What a file imports, statically or not. */
function importsOf(path: string): string[] {
  return [...read(path).matchAll(importing)].map(match => match[1] ?? match[2] ?? match[3])
}

test('a folder imports only from itself and those before it', () => {
  const wrong: string[] = []
  for (const path of files) {
    const own = layers.indexOf(path.split('/')[0])
    for (const target of importsOf(path).filter(target => target.startsWith('.'))) {
      const to = relative(root, resolve(root, path, '..', target)).split('/')[0]
      if (!(layers.indexOf(to) >= 0 && layers.indexOf(to) <= own)) wrong.push(`${path} imports ${target}`)
    }
  }
  assert.equal(wrong, [])
})

test('what must run in a browser imports nothing but itself', () => {
  const found = files
    .filter(path => !needsNode.test(path))
    .flatMap(path => importsOf(path).map(target => [path, target] as const))
    .filter(([, target]) => !target.startsWith('.') && target !== '#wasm-host')
  // gpu.js is loaded when it is asked for, and its types at no cost.
  assert.equal(
    found.filter(([path, target]) => !(path.startsWith('core/backends/gpu/') && target === 'gpu.js')),
    [],
  )
  for (const path of files.filter(path => !needsNode.test(path)))
    for (const target of importsOf(path))
      assert.not.match(relative(root, resolve(root, path, '..', target)), needsNode, `${path} imports ${target}`)
})

test('what needs Node says so at its top', () => {
  const scripts = files.filter(path => !path.startsWith('examples/') && needsNode.test(path))
  for (const path of scripts.filter(path => importsOf(path).some(name => name.startsWith('node:'))))
    assert.match(read(path).split('*/')[0], /Node|node:/, path)
})

test('the built package works by its published names, with declarations, and so does its command', async () => {
  const place = mkdtempSync(join(tmpdir(), 'demask-package-'))
  try {
    const home = join(place, 'node_modules/demask')
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const run = (...args: string[]) => execFileSync(process.execPath, args, { cwd: place, encoding: 'utf8' })
    mkdirSync(home, { recursive: true })
    run(tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', join(home, 'dist'))
    copyFileSync(join(root, 'package.json'), join(home, 'package.json'))
    copyFileSync(join(root, 'core/backends/wasm/dist-package.json'), join(home, 'dist/package.json'))

    const program = `import { backward, ready, rng, square, sum, tensor } from 'demask'
import { Linear } from 'demask/nn'
import { linearBetas } from 'demask/diffusion'
import { mdtPreset } from 'demask/models'
const backend = await ready({ threads: 1 })
const x = tensor([[1, 2]]).requireGrad()
backward(sum(square(x)))
const layer = new Linear(2, 3, { rng: rng(0) })
const shape: readonly number[] = layer.forward(x).shape
console.log(backend.name, [...(await x.grad!.data())], shape, linearBetas(1000).length, mdtPreset('S/2', { inputSize: 32, inChannels: 4, numClasses: 10 }).depth)
`
    writeFileSync(join(place, 'package.json'), '{ "type": "module" }')
    writeFileSync(join(place, 'program.ts'), program)
    const options = {
      target: 'es2023',
      module: 'nodenext',
      strict: true,
      types: [],
      lib: ['es2023', 'esnext.disposable', 'dom'],
    }
    writeFileSync(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['program.ts'] }))
    run(tsc, '-p', place)
    assert.is(run('program.js').trim(), 'wasm [ 2, 4 ] [ 1, 3 ] 1000 12')
    const host = readFileSync(join(home, 'dist/core/backends/wasm/host-web.js'), 'utf8')
    assert.not.match(host, /node:/)
    await commandWorks(place, home)
  } finally {
    rmSync(place, { recursive: true })
  }
})

/** `npx demask` in a project that has installed the package, with what that depends on and nothing else. */
async function commandWorks(place: string, home: string): Promise<void> {
  const { bin, dependencies, version } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'))
  for (const name of Object.keys(dependencies))
    symlinkSync(join(root, 'node_modules', name), join(place, 'node_modules', name))
  const demask = (...words: string[]) =>
    execFileSync(process.execPath, [join(home, bin.demask), ...words], { cwd: place, encoding: 'utf8' })
  assert.match(readFileSync(join(home, bin.demask), 'utf8'), /^#!\/usr\/bin\/env node\n/)
  assert.is(demask('--version'), `${version}\n`)
  const pictures = join(place, 'pictures')
  mkdirSync(pictures)
  for (const background of ['red', 'blue'])
    await sharp({ create: { width: 16, height: 16, channels: 3, background } }).toFile(
      join(pictures, `${background}.png`),
    )
  const small = ['--preset', 'tiny', '--size', '8', '--batch', '1', '--threads', '1', '--data', 'pictures']
  const said = demask('train', 'mdt', ...small, '--steps', '1', '--out', 'run')
  assert.match(
    said,
    /MDT-tiny on the 2 pictures of pictures at 8 px.*\n(.*\n)*run\/checkpoint-00000001 after step 1\n$/,
  )
  assert.match(readFileSync(join(place, 'run/README.md'), 'utf8'), '`npx demask train mdt --out run --resume`')
  assert.match(demask('sample', '--from', 'run', '--count', '1', '--steps', '2'), 'samples.png: 1 picture of 8 px')
}

test.run()
