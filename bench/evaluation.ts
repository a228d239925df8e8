/**
 * The Fréchet distance between two sets of random features, here and by numpy and scipy as pytorch-fid has it, in processes
 * of their own: seconds, peak memory, and how far the results are apart. Needs Node, and numpy and scipy in DEMASK_PYTHON.
 * Run: DEMASK_PYTHON=python npx tsx bench/evaluation.ts
 */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { ready, rng } from '../core/index.ts'
import { featureGaussian, frechetDistance } from '../evaluation/index.ts'
import { table } from './table.ts'

interface Answer {
  readonly distance: number
  /** Seconds: of both means and covariances, and of the distance between them. */
  readonly moments: number
  readonly rest: number
  /** Bytes. */
  readonly memory: number
}

const python = `
import json, resource, sys, time
import numpy as np
from scipy import linalg
D = int(sys.argv[1])
sets = [np.fromfile(path, dtype=np.float32).reshape(-1, D) for path in sys.argv[2:4]]
start = time.perf_counter()
(m1, s1), (m2, s2) = [(np.mean(x, axis=0, dtype=np.float64), np.cov(x, rowvar=False)) for x in sets]
moments = time.perf_counter()
eigen = len(sys.argv) > 4
if eigen:
    w, v = np.linalg.eigh(s1)
    half = (v * np.sqrt(np.maximum(w, 0))) @ v.T
    trace = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ s2 @ half), 0)).sum()
else:
    trace = np.trace(linalg.sqrtm(s1.dot(s2)).real)
distance = float((m1 - m2) @ (m1 - m2) + np.trace(s1) + np.trace(s2) - 2 * trace)
end = time.perf_counter()
print(json.dumps({'distance': distance, 'moments': moments - start, 'rest': end - moments,
                  'memory': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
`

/** The table, from processes that each compute the distance. */
function compare(N: number, D: number): void {
  const place = mkdtempSync(join(tmpdir(), 'demask-features-'))
  try {
    const paths = ['first', 'second'].map((name, i) => {
      const path = join(place, `${name}.f32`)
      const values = rng(i).normalArray(N * D)
      writeFileSync(path, i === 0 ? values : values.map(x => 1.1 * x + 0.1))
      return path
    })
    const ask = (program: string, ...args: string[]): Answer =>
      JSON.parse(execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }))
    const sizes = ['--features', String(N), '--width', String(D)]
    const here = ask(process.execPath, ...process.execArgv, import.meta.filename, ...sizes, ...paths)
    const scipy = process.env.DEMASK_PYTHON ?? 'python3'
    const root = ask(scipy, '-c', python, String(D), ...paths)
    const eigen = ask(scipy, '-c', python, String(D), ...paths, 'eigen')
    const row = (name: string, { distance, moments, rest, memory }: Answer) => [
      name,
      moments.toFixed(2),
      rest.toFixed(2),
      (moments + rest).toFixed(2),
      `${((here.moments + here.rest) / (moments + rest)).toFixed(2)}`,
      `${(memory / 2 ** 30).toFixed(2)} GiB`,
      distance.toPrecision(12),
      Math.abs(here.distance / distance - 1).toExponential(1),
    ]
    console.log(`Fréchet distance of 2 × ${N} × ${D} features, seconds`)
    const head = ['', 'moments', 'distance', 'both', 'here takes', 'memory', 'result', 'here is off by']
    const names = ['here', 'numpy, scipy.linalg.sqrtm', 'numpy, eigenvalues']
    console.log(table([head, ...[here, root, eigen].map((answer, i) => row(names[i], answer))]))
  } finally {
    rmSync(place, { recursive: true })
  }
}

/** In a process of its own: the distance between two files. */
async function measure(paths: readonly string[], N: number, D: number): Promise<void> {
  const backend = await ready()
  const sets = paths.map(path => {
    const bytes = readFileSync(path)
    return { data: new Float32Array(bytes.buffer, bytes.byteOffset, N * D), shape: [N, D] }
  })
  const start = performance.now()
  const [a, b] = sets.map(featureGaussian)
  const moments = performance.now()
  const distance = frechetDistance(a, b)
  const end = performance.now()
  const memory = process.resourceUsage().maxRSS * 1024
  console.log(JSON.stringify({ distance, moments: (moments - start) / 1000, rest: (end - moments) / 1000, memory }))
  backend.dispose()
}

await main(() => {
  const { features, width, file } = readFlags({
    command: 'npx tsx bench/evaluation.ts',
    about: 'The Fréchet distance of two sets of random features, here and by the numpy and scipy of DEMASK_PYTHON.',
    operands: { file: { about: 'for the processes that compute: the features', many: true, optional: true } },
    flags: {
      features: { type: 'integer', min: 2, default: 10_000, about: 'how many in each set' },
      width: { type: 'integer', min: 1, default: 2048, about: 'numbers in each feature' },
    },
    examples: [
      ['', 'as many as papers take, some minutes'],
      ['--features 2000 --width 256', 'a first look'],
    ],
  })
  return file.length === 0 ? compare(features, width) : measure(file, features, width)
})
