/**
 * The packed package in other people's projects: webpack, older TypeScript settings, Bun and Deno. Installs them into a
 * temporary folder, which needs the registry; `npm run test:surroundings` runs it. Needs Node.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../repo/markdown.ts'
import { specifiers } from '../repo/rooms.ts'

const place = mkdtempSync(join(tmpdir(), 'demask-surroundings-'))

test.before(() => {
  const npm = (...words: string[]) => execFileSync('npm', words, { cwd: place, encoding: 'utf8', stdio: 'pipe' })
  execFileSync('npm', ['run', 'build'], { cwd: root, stdio: 'pipe' })
  writeFileSync(join(place, 'package.json'), '{ "name": "project", "private": true }')
  const pack = npm('pack', root, '--ignore-scripts').trim().split('\n').at(-1)!
  npm('install', `./${pack}`, 'webpack@5', 'webpack-cli@6', 'typescript@5', 'bun', 'deno', '--no-audit', '--no-fund')
})
test.after(() => rmSync(place, { recursive: true }))

const sum = `const backend = await ready({ backend: 'wasm', threads: 2 })
await new Promise(resolve => setTimeout(resolve, 500)) // a failing worker has warned by then
console.log(backend.name, backend.threads, await sum(tensor([1, 2])).item())`

/** Runs a command in the project; what it printed on both streams. */
function run(command: string, ...words: string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(join(place, 'node_modules/.bin', command), words, {
    cwd: place,
    encoding: 'utf8',
  })
  return { status, text: `${stdout}${stderr}` }
}

for (const target of ['web', 'node'])
  test(`webpack builds a program for ${target} without gpu.js`, () => {
    writeFileSync(join(place, 'entry.mjs'), `import { ready, sum, tensor } from 'demask'\n(async () => {${sum}})()`)
    const words = ['--mode', 'production', '--target', target, '--entry', './entry.mjs', '--output-path', `./${target}`]
    const { status, text } = run('webpack', ...words)
    assert.is(status, 0, text)
    assert.not.match(text, 'ERROR')
    if (target === 'node')
      assert.is(execFileSync(process.execPath, ['node/main.js'], { cwd: place, encoding: 'utf8' }), 'wasm 2 3\n')
  })

const settings = [
  { module: 'nodenext', target: 'es2022', types: [], lib: ['es2022', 'dom'] },
  { module: 'esnext', moduleResolution: 'bundler', target: 'es2022', types: [], lib: ['es2022', 'dom'] },
  { module: 'commonjs', moduleResolution: 'node', target: 'es2022', types: ['node'], lib: ['es2022', 'dom'] },
]
for (const options of settings)
  test(`declarations compile with ${JSON.stringify(options)} and without skipLibCheck`, () => {
    const imports = specifiers.map((specifier, i) => `import * as room${i} from '${specifier}'\nconsole.log(room${i})`)
    writeFileSync(join(place, 'program.ts'), imports.join('\n'))
    const compilerOptions = { ...options, strict: true, noEmit: true, skipLibCheck: false }
    writeFileSync(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }))
    const { status, text } = run('tsc', '-p', '.')
    assert.is(status, 0, text)
  })

test('require() works in CommonJS', () => {
  const source =
    "const { tensor } = require('demask'); console.log(tensor([1, 2]).shape[0], typeof require('demask/nn').Linear)"
  const { stdout, stderr } = spawnSync(process.execPath, ['--eval', source], { cwd: place, encoding: 'utf8' })
  assert.is(stdout, '2 function\n', stderr)
})

for (const [engine, ...words] of [
  ['bun', 'run'],
  ['deno', 'run', '--allow-all'],
])
  test(`${engine} runs wasm on two threads`, () => {
    writeFileSync(join(place, 'program.mjs'), `import { ready, sum, tensor } from 'demask'\n${sum}\nprocess.exit()`)
    const { status, text } = run(engine, ...words, 'program.mjs')
    assert.is(status, 0, text)
    assert.match(text, /^wasm 2 3$/m)
    assert.not.match(text, 'worker')
  })

test.run()
