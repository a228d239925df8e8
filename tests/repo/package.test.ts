/**
 * The shape of the whole: folders import only from those before them, what must run in a browser imports nothing of
 * Node, and the package, packed as it is published, installs and works in Node, as a command, and bundled by Vite in
 * Chromium. Needs Node.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import sharp from 'sharp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isolation } from '../../site/isolation.ts'
import { executable } from '../core/browser-host.ts'
import { blocks, read, root } from './markdown.ts'
import { rooms, specifiers } from './rooms.ts'

const layers: readonly string[] = rooms
/** Rooms without Node, except for files that end in -node.ts and the build of the wasm kernels. */
const neutral = /^(core|nn|evaluation|diffusion|models)\//
const forNode = /(-node|wasm\/build|evaluation\/feature-statistics)\.ts$/
/** Entry points that a browser loads. */
const inBrowsers = ['core', 'io', 'nn', 'evaluation', 'diffusion', 'models', 'training'].map(room => `${room}/index.ts`)

const files = layers.flatMap(folder =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map(name => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter(path => path.endsWith('.ts') && !path.endsWith('.as.ts') && !path.includes('/generated/')),
)

const importing = /^(?:(?:import|export) [^'\n]*|\} )from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm

/** Imports of a file, static or dynamic. */
function importsOf(path: string): string[] {
  return importsIn(read(path))
}

function importsIn(text: string): string[] {
  return [...text.matchAll(importing)].map(match => match[1] ?? match[2] ?? match[3])
}

/** Imports that are there when the file runs: types are not. */
function loadedBy(path: string): string[] {
  return importsIn(read(path).replace(/^(?:import|export) type [^']* from '[^']+'$/gm, ''))
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

/** The `imports` of a file that are packages or modules of Node; gpu.js is loaded on demand. */
function packagesOf(path: string, imports: readonly string[]): string[] {
  return imports.filter(
    target => !target.startsWith('.') && !(path.startsWith('core/backends/gpu/') && target === 'gpu.js'),
  )
}

/** A file and all that is loaded with it. */
function reachable(path: string, seen = new Set<string>()): Set<string> {
  if (seen.has(path) || !files.includes(path)) return seen
  seen.add(path)
  for (const target of loadedBy(path).filter(target => target.startsWith('.')))
    reachable(relative(root, resolve(root, path, '..', target)), seen)
  return seen
}

test('core, nn, evaluation, diffusion and models import no package and nothing of Node', () => {
  const used = files
    .filter(path => neutral.test(path) && !forNode.test(path))
    .flatMap(path => packagesOf(path, importsOf(path)).map(target => `${path} imports ${target}`))
  assert.equal(used, [])
})

test('what a browser loads reaches no package and nothing of Node', () => {
  for (const entry of inBrowsers)
    for (const path of reachable(entry)) assert.equal(packagesOf(path, loadedBy(path)), [], `${entry} reaches ${path}`)
})

test('a file that uses Node says so at its top', () => {
  for (const path of files.filter(path => !path.startsWith('examples/')))
    if (importsOf(path).some(name => name.startsWith('node:')))
      assert.match(read(path).split('*/')[0], /Node|node:/, path)
})

test('an index is a list of names, so that nothing becomes public by accident', () => {
  const indexes = files.filter(path => /\/index(-node)?\.ts$/.test(path) && !path.startsWith('cli/'))
  for (const path of indexes) assert.not.match(read(path), /^export \*(?! from '\.\/index\.ts'$)/m, path)
})

test('the core exports what defines an op, and none of its internals', async () => {
  const core: Record<string, unknown> = await import('../../core/index.ts')
  for (const name of [
    'defineOp',
    'defineManyOp',
    'defineUpdate',
    'apply',
    'applyMany',
    'update',
    'registry',
    'updates',
  ])
    assert.type(core[name], 'function', name)
  const internal = [
    'view',
    'unary',
    'philox',
    'normalOfWord',
    'zeroWhere',
    'untyped',
    'sampler',
    'checkHyperparameters',
  ]
  const gradients = ['siluGrad', 'geluGrad', 'geluTanhGrad', 'layerNormGrad', 'softmaxGrad', 'logSoftmaxGrad']
  for (const name of [...internal, ...gradients]) assert.is(core[name], undefined, name)
})

test('nothing outside examples, tests and the site imports from examples', () => {
  const others = readdirSync(join(root, 'bench'), { recursive: true, encoding: 'utf8' })
    .map(name => `bench/${name}`)
    .filter(path => path.endsWith('.ts') && !path.includes('node_modules'))
  const wrong = [...files, ...others]
    .filter(path => !path.startsWith('examples/'))
    .flatMap(path => importsOf(path).map(target => [path, target] as const))
    .filter(
      ([path, target]) =>
        target.startsWith('.') && /^examples\//.test(relative(root, resolve(root, path, '..', target))),
    )
  assert.equal(wrong, [])
})

test('the lockfiles name exact versions and their hashes, and no script of a dependency has to run', () => {
  const exact = /^\d+\.\d+\.\d+(-[\w.]+)?$/
  for (const folder of ['', 'site/', 'bench/peers/']) {
    const { dependencies, devDependencies, peerDependencies, allowScripts } = json(`${folder}package.json`)
    const { packages } = json(`${folder}package-lock.json`)
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...peerDependencies })) {
      assert.match(version as string, exact, `${folder}package.json: ${name}`)
      assert.is(packages[`node_modules/${name}`].version, version, `${folder}package-lock.json: ${name}`)
    }
    const installed = Object.entries<LockEntry>(packages).filter(([path]) => path !== '')
    for (const [path, { version, integrity, resolved }] of installed) {
      assert.match(version, exact, path)
      assert.match(integrity, /^sha512-/, path)
      assert.match(resolved ?? 'https://registry.npmjs.org/', /^https:\/\/registry\.npmjs\.org\//, path)
    }
    const scripted = installed.filter(([, { hasInstallScript }]) => hasInstallScript)
    assert.equal(scripted.map(([path]) => path.replace('node_modules/', '')).sort(), Object.keys(allowScripts).sort())
    assert.ok(Object.values(allowScripts).every(allowed => allowed === false))
    // The installed package has none at all.
    if (folder === '')
      assert.equal(
        scripted.filter(([, { dev }]) => !dev),
        [],
      )
  }
})

interface LockEntry {
  readonly version: string
  readonly integrity: string
  readonly resolved?: string
  readonly hasInstallScript?: boolean
  readonly dev?: boolean
}

function json(path: string) {
  return JSON.parse(read(path))
}

/** A first program, which prints the same in Node and in a browser. */
const program = `import { backward, ready, rng, square, sum, tensor } from 'demask'
import { Linear } from 'demask/nn'
import { linearBetas } from 'demask/diffusion'
import { mdtPreset } from 'demask/models'
const backend = await ready({ threads: 2 })
const x = tensor([[1, 2]]).requireGrad()
backward(sum(square(x)))
const shape: readonly number[] = new Linear(2, 3, { rng: rng(0) }).forward(x).shape
const { depth } = mdtPreset('S/2', { inputSize: 32, inChannels: 4, numClasses: 10 })
console.log(JSON.stringify([backend.name, [...(await x.grad!.data())], shape, linearBetas(1000).length, depth]))
`
const said = '["wasm",[2,4],[1,3],1000,12]'

const place = mkdtempSync(join(tmpdir(), 'demask-package-'))
const home = join(place, 'node_modules/demask')
const tsc = join(root, 'node_modules/typescript/bin/tsc')
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: place, encoding: 'utf8' })

test.after(() => rmSync(place, { recursive: true }))

test('a packed package holds what its users need, and installs in an empty project', () => {
  const stage = join(place, 'stage')
  node(tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', join(stage, 'dist'))
  for (const name of ['package.json', 'README.md', 'LICENSE', 'assets', 'core/backends/wasm/kernels'])
    cpSync(join(root, name), join(stage, name), { recursive: true })
  const { filename, files, unpackedSize } = packed(stage, '--pack-destination', place)

  const kernels = readdirSync(join(root, 'core/backends/wasm/kernels')).map(
    name => `core/backends/wasm/kernels/${name}`,
  )
  const rest = ['LICENSE', 'README.md', 'assets/emoji-features.safetensors', ...kernels, 'package.json'].sort()
  assert.equal(files.filter(path => !path.startsWith('dist/')).sort(), rest)
  // The repository itself, where there is much more to leave out.
  assert.equal(
    packed(root, '--dry-run')
      .files.filter(path => !path.startsWith('dist/'))
      .sort(),
    rest,
  )
  const compiled = new RegExp(`^dist/((${rooms.join('|')})/.*(\\.js|\\.d\\.ts))$`)
  assert.equal(
    files.filter(path => path.startsWith('dist/') && !compiled.test(path)),
    [],
  )
  for (const name of ['core/index', 'cli/index', 'core/backends/wasm/generated/relaxed', 'core/backends/wasm/host'])
    for (const ending of ['js', 'd.ts']) assert.ok(files.includes(`dist/${name}.${ending}`), name)
  assert.ok(unpackedSize < 5e6, `${unpackedSize} bytes`)

  writeFileSync(join(place, 'package.json'), '{ "type": "module" }')
  install(join(place, filename))
})

/** Files that `npm pack` takes from a folder, without building there. */
function packed(folder: string, ...flags: string[]): { filename: string; files: string[]; unpackedSize: number } {
  const words = ['pack', folder, '--json', '--ignore-scripts', ...flags]
  const text = execFileSync('npm', words, { cwd: place, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const [{ filename, files, unpackedSize }] = Object.values(JSON.parse(text)) as [
    { filename: string; files: { path: string }[]; unpackedSize: number },
  ]
  return { filename, files: files.map(({ path }) => path), unpackedSize }
}

/** `npm install` of the file; where the registry cannot be reached, unpacks it and borrows what it depends on from here. */
function install(tarball: string): void {
  const words = [
    'install',
    tarball,
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--fetch-retries=0',
  ]
  const { status, stderr } = spawnSync('npm', words, { cwd: place, encoding: 'utf8' })
  if (status === 0) return
  assert.match(stderr, /ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENOTCACHED|code E[45]\d\d/, stderr)
  console.log('SKIPPED npm install of the package: the registry cannot be reached; unpacked instead')
  mkdirSync(home, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '--strip-components=1', '-C', home])
  for (const name of Object.keys(json('package.json').dependencies))
    symlinkSync(join(root, 'node_modules', name), join(place, 'node_modules', name))
}

test('every room of the package can be imported in Node, and only those', () => {
  const { exports } = json('package.json')
  const names = Object.keys(exports).map(key => key.replace('.', 'demask'))
  assert.equal(names.sort(), [...specifiers].sort())
  for (const name of specifiers) {
    const count = node('--input-type=module', '--eval', `console.log(Object.keys(await import('${name}')).length)`)
    assert.ok(Number(count) > 0, name)
  }
})

test('rooms are imported without the packages that programs need', () => {
  const bare = join(place, 'bare')
  cpSync(home, join(bare, 'node_modules/demask'), { recursive: true })
  writeFileSync(join(bare, 'package.json'), '{ "type": "module" }')
  for (const name of specifiers)
    execFileSync(process.execPath, ['--input-type=module', '--eval', `await import('${name}')`], { cwd: bare })
})

test('a plain install takes at most 26 MB in at most 30 folders', () => {
  const folders = packagesIn(join(place, 'node_modules'))
  const bytes = folders.reduce((sum, folder) => sum + bytesIn(folder), 0)
  assert.ok(folders.length <= 30, folders.join('\n'))
  assert.ok(bytes <= 26e6, `${bytes} bytes`)
})

/** Folders of packages, those inside of others among them. */
function packagesIn(modules: string): string[] {
  if (!existsSync(modules)) return []
  return readdirSync(modules).flatMap(name => {
    if (name.startsWith('.')) return []
    const folder = realpathSync(join(modules, name))
    return name.startsWith('@') ? packagesIn(folder) : [folder, ...packagesIn(join(folder, 'node_modules'))]
  })
}

/** Bytes of the files of a package, without those of packages inside of it. */
function bytesIn(folder: string): number {
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sum + (entry.name === 'node_modules' ? 0 : bytesIn(path))
    return sum + statSync(path).size
  }, 0)
}

test('a bundle holds what is used: tensor and add take at most 25 kB', async () => {
  const { outputs } = (
    await build({
      stdin: {
        contents: "import { add, tensor } from 'demask'; console.log(String(add(tensor([1, 2]), 1)))",
        resolveDir: place,
      },
      bundle: true,
      minify: true,
      splitting: true,
      format: 'esm',
      platform: 'neutral',
      write: true,
      outdir: join(place, 'bundle'),
      metafile: true,
      logLevel: 'error',
      absWorkingDir: place,
    })
  ).metafile
  // The chunks that are loaded with the first one; wasm is loaded on demand.
  const first = Object.keys(outputs).find(path => outputs[path].entryPoint === '<stdin>')!
  const loaded = new Set([first])
  for (const path of loaded)
    for (const { kind, path: target } of outputs[path].imports) if (kind === 'import-statement') loaded.add(target)
  const bytes = [...loaded].reduce((sum, path) => sum + outputs[path].bytes, 0)
  assert.ok(bytes <= 25_000, `${bytes} bytes`)
  assert.is(node(first).trim(), 'Tensor f32 [2] on cpu: [2, 3]')
})

test('ten lines with the package: declarations, and Node', () => {
  writeFileSync(join(place, 'program.ts'), program)
  const options = {
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    types: [],
    lib: ['es2023', 'esnext.disposable', 'dom'],
  }
  writeFileSync(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['program.ts'] }))
  node(tsc, '-p', place)
  assert.is(node('program.js').trim(), said)
})

test('the quick start and the examples of the library run as printed, as plain JavaScript', () => {
  const pages = ['README.md', 'docs/index.md', 'docs/library.md']
  const { version } = json('package.json')
  for (const page of pages) assert.match(read(page), `npm install ../demask/demask-${version}.tgz`, page)
  const printed = pages.flatMap(page => blocks(read(page))).filter(({ language }) => language === 'ts')
  assert.ok(printed.length >= 6, `${printed.length} programs`)
  for (const { text } of printed) {
    writeFileSync(join(place, 'printed.mjs'), text)
    const promised = [...text.matchAll(/^ *console\.log\(.*\) \/\/ (.*)$/gm)].map(([, output]) => output)
    assert.equal(node('printed.mjs').trim().split('\n'), promised)
  }
})

const inBrowser = executable === undefined ? test.skip : test

inBrowser('the same lines, bundled by Vite, in Chromium', async () => {
  writeFileSync(
    join(place, 'index.html'),
    '<link rel="icon" href="data:,"><script type="module" src="program.ts"></script>',
  )
  const config = {
    root: place,
    configFile: false,
    logLevel: 'error',
    preview: { host: '127.0.0.1', port: 0, headers: isolation },
  } as const
  const vite = await import('vite')
  await vite.build(config)
  const server = await vite.preview(config)
  const browser = await chromium.launch({ executablePath: executable, args: ['--no-sandbox', '--disable-gpu'] })
  try {
    const page = await browser.newPage()
    const heard = new Promise<string>(resolve => {
      page.on('console', message => resolve(message.text()))
      page.on('pageerror', error => resolve(error.message))
    })
    await page.goto(server.resolvedUrls!.local[0])
    assert.is(await heard, said)
  } finally {
    await browser.close()
    await server.close()
  }
})

test('npx demask in that project: train and sample', async () => {
  const { bin, version } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'))
  const demask = (...words: string[]) => node(join(home, bin.demask), ...words)
  assert.match(readFileSync(join(home, bin.demask), 'utf8'), /^#!\/usr\/bin\/env node\n/)
  assert.is(demask('--version'), `${version}\n`)
  const pictures = join(place, 'pictures')
  mkdirSync(pictures)
  for (const background of ['red', 'blue'])
    await sharp({ create: { width: 16, height: 16, channels: 3, background } }).toFile(
      join(pictures, `${background}.png`),
    )
  const small = ['--preset', 'tiny', '--size', '8', '--batch', '1', '--threads', '1', '--data', 'pictures']
  const trained = demask('train', 'mdt', ...small, '--steps', '1', '--out', 'run')
  assert.match(
    trained,
    /MDT-tiny on the 2 pictures of pictures at 8 px.*\n(.*\n)*run\/checkpoint-00000001 after step 1\n$/,
  )
  assert.match(
    readFileSync(join(place, 'run/README.md'), 'utf8'),
    '`npx demask train mdt --out run --resume --steps 1`',
  )
  assert.match(demask('sample', '--from', 'run', '--count', '1', '--steps', '2'), 'samples.png: 1 picture of 8 px')
  // A clone has a model to sample from, the package has none.
  const { status, stderr } = spawnSync(process.execPath, [join(home, bin.demask), 'sample'], { encoding: 'utf8' })
  assert.equal([status, stderr], [2, 'error: --from: expected a run, a checkpoint or a file of weights, got none\n'])
})

test.run()
