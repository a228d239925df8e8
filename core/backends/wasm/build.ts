/**
 * Compiles the AssemblyScript kernels and writes generated/: the binaries as base64, so that Node, workers, browsers and
 * bundlers load them without a file or a fetch, and the host's types of all kernel arguments (bindings.ts). Two builds
 * of the same source: `relaxed` (fused multiply-add of the relaxed SIMD proposal) and `simd` (plain 128-bit SIMD),
 * chosen at load. Runs in Node: `npm run build:wasm`.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'
import { exportKernels, findKernels, hostModule } from './bindings.ts'

const here = fileURLToPath(new URL('.', import.meta.url))

type Transform = NonNullable<asc.APIOptions['transforms']>[number]
type Parser = Parameters<NonNullable<Transform['afterParse']>>[0]

/** Bytes below which the thread state and the arguments lie (threads.as.ts); static data begins here. */
const MEMORY_BASE = 2048

/** Adds the exports of all kernels to the parsed sources, and writes the host's types of their arguments. */
function addExports(parser: Parser): void {
  const bindings = findKernels(parser.sources)
  parser.parseFile(exportKernels(bindings), 'kernels/exports.as.ts', true)
  writeFileSync(`${here}generated/kernels.ts`, hostModule(bindings))
}

async function compile(build: 'relaxed' | 'simd'): Promise<Uint8Array> {
  let binary: Uint8Array | undefined
  const flags = '-O3 --noAssert --runtime stub --importMemory --sharedMemory --initialMemory 1 --maximumMemory 65536'
  const features = `--enable threads --enable simd ${build === 'relaxed' ? '--enable relaxed-simd' : ''}`
  const layout = `--memoryBase ${MEMORY_BASE} --exportTable`
  const { error, stderr } = await asc.main(
    ['kernels/index.as.ts', '-o', 'kernels.wasm', '--use', `RELAXED=${build === 'relaxed' ? 1 : 0}`]
      .concat(`${flags} ${features} ${layout}`.split(/\s+/))
      .concat('--baseDir', here),
    {
      transforms: [{ afterParse: addExports } as Transform],
      writeFile: (_name, contents) => {
        binary = contents as Uint8Array
      },
    },
  )
  if (error || !binary) throw new Error(`asc ${build}: ${error?.message} ${stderr.toString()}`)
  return binary
}

mkdirSync(`${here}generated`, { recursive: true })
for (const build of ['relaxed', 'simd'] as const) {
  const binary = await compile(build)
  const base64 = Buffer.from(binary).toString('base64')
  writeFileSync(`${here}generated/${build}.ts`, `export const base64 =\n  '${base64}'\n`)
  console.log(`wasm ${build}: ${binary.length} bytes`)
}
