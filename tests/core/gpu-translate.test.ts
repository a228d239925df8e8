/**
 * Holds core/backends/gpu/gpujs/translate.ts to the installed version of gpu.js: the version is the one that file
 * names, the private members that it uses exist, and every patched function is found in gpu.js' output. Needs no WebGPU
 * device.
 */

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { FlatKernel, Thread } from '../../core/backends/gpu/gpujs/kernel.ts'
import { library } from '../../core/backends/gpu/gpujs/library.ts'
import { createTranslator, gpuJsVersion } from '../../core/backends/gpu/gpujs/translate.ts'
import { gridOf } from '../../core/backends/gpu/program.ts'

// gpu.js offers its WebGPU mode where there is an entry to WebGPU, and translates without asking it for a device.
Object.defineProperty(globalThis, 'navigator', { value: { gpu: {} }, configurable: true })
const { GPU } = await import('gpu.js')
const translator = () => createTranslator(new GPU({ mode: 'webgpu' as 'gpu' }))

const require = createRequire(import.meta.url)
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'))

function shifted(this: Thread, x: Float32Array, n: number, p: number): number {
  return x[this.thread.x + n] * p
}
const shift: FlatKernel = { key: 'shift', kernel: shifted as never }

/** A kernel that calls a library function on its first elements. */
function calling(name: string, count: number): FlatKernel {
  const reads = Array.from({ length: count }, (_, i) => `x[${i}]`)
  const source = `function call(x) { return ${name}(${reads.join(', ')}) }`
  return { key: name, kernel: { toString: () => source } as never }
}

test('the installed gpu.js, the packages and the documentation have the version that translate.ts names', () => {
  assert.is(json(require.resolve('gpu.js/package.json')).version, gpuJsVersion)
  const { peerDependencies, devDependencies } = json('package.json')
  assert.is(peerDependencies['gpu.js'], gpuJsVersion)
  assert.is(devDependencies['gpu.js'], gpuJsVersion)
  assert.match(readFileSync('docs/gpu.md', 'utf8'), `npm install gpu.js@${gpuJsVersion}`)
})

test('the private members of its WebGPU kernel are there', () => {
  const { kernel } = new GPU({ mode: 'webgpu' as 'gpu' }).createKernel('function f() { return 1 }', {
    output: [1],
  } as object) as unknown as { kernel: Record<string, unknown> }
  assert.type(kernel._buildAsync, 'function')
  assert.type(kernel.build, 'function')
  for (const name of ['compiledSource', 'paramsLayout']) assert.ok(name in kernel, name)
})

test('a kernel becomes a program: its numbers in the uniform block, the buffer that is written last', () => {
  const size = 5_000_000
  const { code, params, reads, writes, workgroups } = translator()(shift, size, 1, [7], [0.5])
  assert.equal([reads, writes, workgroups], [1, 1, Math.ceil(size / 64)])
  assert.is(params[0], size)
  assert.is(params[3], 64 * gridOf(workgroups)[0])
  assert.is(params.byteLength % 16, 0)
  const fields = [...code().matchAll(/^ {2}(\w+) : (u32|i32|f32|vec4<u32>),$/gm)]
  const word = (name: string) => {
    let at = 0
    for (const [, field, type] of fields) {
      if (type === 'vec4<u32>') at = 4 * Math.ceil(at / 4)
      if (field === name) return at
      at += type === 'vec4<u32>' ? 4 : 1
    }
    throw new Error(`no field ${name}`)
  }
  assert.is(params[word('user_n')], 7)
  assert.is(new Float32Array(params.buffer)[word('user_p')], 0.5)
  const bindings = [...code().matchAll(/@binding\((\d+)\) var<(\w+(?:, \w+)?)>/g)].map(found => found.slice(1))
  assert.equal(bindings, [
    ['0', 'uniform'],
    ['1', 'storage, read'],
    ['2', 'storage, read_write'],
  ])
  assert.match(code(), '@workgroup_size(64, 1, 1)')
})

test('kernels are translated once, and a call changes the numbers only', () => {
  let translations = 0
  const counted: FlatKernel = {
    key: 'counted',
    kernel: {
      toString() {
        translations++
        return shifted.toString()
      },
    } as never,
  }
  const translate = translator()
  const [first, second] = [translate(counted, 3, 1, [1], [2]), translate(counted, 90, 1, [3], [4])]
  assert.is(translations, 1)
  assert.is(first.key, second.key)
  assert.is(first.code(), second.code())
  assert.is(second.params[0], 90)
  assert.is.not(translate({ ...counted, rank: 2 }, 3, 1, [1], [2]).key, first.key)
})

for (const { name, wgsl, settings } of library)
  test(`${name}: translated${wgsl === undefined ? '' : ', with its own body in WGSL'}`, () => {
    const code = translator()(calling(name, settings.argumentTypes.length), 1, 1, [], []).code()
    const body = new RegExp(`fn fn_${name}\\(([^)]*)\\) -> \\w+ \\{([^}]*)\\}`).exec(code)
    assert.ok(body, code)
    if (wgsl === undefined) return
    const names = body[1].split(',').map(parameter => parameter.split(':')[0].trim())
    const wanted = wgsl.replace(/\$(\d)/g, (_, i) => names[Number(i) - 1])
    assert.ok(code.includes(`{ ${wanted} }`), code)
    // Braces balance: the pattern that finds a body ends at its first closing brace.
    assert.is(code.split('{').length, code.split('}').length)
  })

test('a gpu.js without a private member is refused in one line', () => {
  const gpu = new GPU({ mode: 'webgpu' as 'gpu' })
  const createKernel = gpu.createKernel.bind(gpu)
  gpu.createKernel = ((...args: Parameters<typeof createKernel>) => {
    const shortcut = createKernel(...args) as unknown as { kernel: Record<string, unknown> }
    shortcut.kernel._buildAsync = undefined
    return shortcut
  }) as never
  assert.throws(
    () => createTranslator(gpu)(shift, 1, 1, [0], [1]),
    `gpu: expected gpu.js ${gpuJsVersion}, got one without _buildAsync: npm install gpu.js@${gpuJsVersion}`,
  )
})

test.run()
