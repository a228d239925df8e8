/**
 * `npm run parity -- DIR…`: computes what fixture folders hold, in f64 on `cpu` and in f32 on the default backend, and
 * prints one line per group of tensors. Exits 1 when a value differs, when a fixture holds something that is not
 * computed here (NOT CHECKED), and on a folder that cannot be read or whose kind is unknown. Needs Node.
 */

import { pathToFileURL } from 'node:url'
import { readFlags } from '../../cli/flags.ts'
import { main } from '../../cli/main.ts'
import { cpu, defaultBackend } from '../../core/index.ts'
import { ready } from '../../core/ready.ts'
import {
  compare,
  hasRoundings,
  isWeights,
  leastScaleOf,
  type Stored,
  toleranceOf,
  whyOnlyInF64,
  withoutKeyThird,
} from './compare.ts'
import { Fixture, isObject, type Run } from './fixture.ts'
import { type Computed, type Kind, loadKind, onHost } from './kind.ts'

export type Status = 'OK' | 'FAIL' | 'NOT CHECKED' | 'NOT RUN'

/** Outcome of one key. `NOT RUN` is for keys that the run's precision rules out. */
export interface Check {
  readonly key: string
  readonly status: Status
  readonly error?: number
  readonly tolerance?: number
  readonly note?: string
}

/** Where fixtures are run: f64 on `cpu`, f32 on the default backend. */
export function runs(): Run[] {
  return [
    { backend: cpu, dtype: 'f64' },
    { backend: defaultBackend(), dtype: 'f32' },
  ]
}

/** Compares everything a fixture holds. Throws what the kind itself throws, such as on parameters that do not fit. */
export async function check(fixture: Fixture, run: Run, compute: Kind): Promise<Check[]> {
  fixture.taken.clear()
  const results = await compute(fixture, run)
  const checks: Check[] = []
  for (const [key, stored] of expected(fixture)) {
    const computed = results.get(key) ?? (hasRoundings(key) ? results.get(withoutRoundings(key)) : undefined)
    const inF64 = whyOnlyInF64(fixture.kind, key)
    if (inF64 !== null && run.dtype === 'f32') checks.push({ key, status: 'NOT RUN', note: inF64 })
    else if (computed !== undefined) checks.push(await checkOne(fixture, run, key, stored, computed))
    else if (!(key.startsWith('scalar.') && fixture.taken.has(key))) checks.push({ key, status: 'NOT CHECKED' })
  }
  return [...checks, ...surroundings(fixture, run)]
}

/** All results by key; scalars too, as they may be settings, which only the kind can tell. */
function expected(fixture: Fixture): Map<string, Stored> {
  const found = new Map<string, Stored>()
  for (const [key, stored] of fixture.tensors) if (!/^(in|param)\./.test(key)) found.set(key, stored)
  for (const [name, value] of fixture.scalars) found.set(`scalar.${name}`, { dtype: 'F64', shape: [], data: [value] })
  return found
}

function withoutRoundings(key: string): string {
  return key.replace(/_f32(cast)?$/, '')
}

async function checkOne(fixture: Fixture, run: Run, key: string, stored: Stored, computed: Computed): Promise<Check> {
  fixture.settings.clear()
  let got: Awaited<ReturnType<typeof onHost>>
  try {
    got = await onHost(await (typeof computed === 'function' ? computed() : computed))
  } catch (error) {
    return { key, status: 'FAIL', note: messageOf(error) }
  }
  const { train } = fixture.manifest
  const lr = isObject(train) && typeof train.lr === 'number' ? train.lr : 0
  const exact = !stored.dtype.startsWith('F')
  const tolerance = exact ? 0 : toleranceOf(fixture.kind, key, run.dtype, lr)
  const drifts = run.dtype === 'f32' && isWeights(key) && key.endsWith('qkv.bias')
  const counts = drifts ? withoutKeyThird(stored.data.length) : undefined
  const { error, problem } = compare(stored, got, counts, leastScaleOf(fixture.kind, key))
  if (error <= tolerance) return { key, status: 'OK', error, tolerance }
  const settings = [...fixture.settings].map(([name, value]) => `with ${name} = ${value}`)
  const note = problem ?? (drifts ? 'the key third of qkv.bias left out' : settings.join(', '))
  return { key, status: 'FAIL', error, tolerance, note }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Problems beside the results: manifest and file that disagree, inputs that were not used. */
function surroundings(fixture: Fixture, run: Run): Check[] {
  const { keys } = fixture.manifest
  const described = isObject(keys) ? keys : {}
  const checks: Check[] = []
  for (const key of Object.keys(described))
    if (!fixture.has(key)) checks.push({ key, status: 'FAIL', note: 'the manifest lists it, the file lacks it' })
  for (const [key, { shape }] of fixture.tensors) {
    const entry = described[key]
    if (!isObject(entry)) checks.push({ key, status: 'FAIL', note: 'the manifest does not list it' })
    else if (JSON.stringify(entry.shape) !== JSON.stringify(shape))
      checks.push({ key, status: 'FAIL', note: `the manifest says shape ${JSON.stringify(entry.shape)}` })
    // Some inputs belong to what f32 leaves out.
    if (run.dtype === 'f64' && /^(in|param)\./.test(key) && !fixture.taken.has(key))
      checks.push({ key, status: 'NOT CHECKED', note: 'an input that nothing was computed from' })
  }
  return checks
}

/** Lines of a report: per group its worst error, and by key what is not as it should be. */
export function report(checks: readonly Check[]): string[] {
  const groups = new Map<string, Check[]>()
  for (const one of checks) {
    const group = groupOf(one.key)
    groups.set(group, [...(groups.get(group) ?? []), one])
  }
  const lines: string[] = []
  for (const [group, members] of groups) {
    const fine = members.filter(m => m.status === 'OK')
    if (fine.length > 0) {
      const worst = fine.reduce((a, b) => (b.error! / (b.tolerance || 1) > a.error! / (a.tolerance || 1) ? b : a))
      lines.push(lineOf({ ...worst, key: group }, fine.length))
    }
    for (const status of ['FAIL', 'NOT CHECKED'] as const)
      for (const one of members.filter(m => m.status === status)) lines.push(lineOf(one, 1))
    const left = members.filter(m => m.status === 'NOT RUN')
    if (left.length > 0) lines.push(lineOf({ ...left[0], key: group }, left.length))
  }
  return lines
}

/** `grad.blocks` of `grad.blocks.0.attn.qkv.weight`; `out.ddim_eta0.5` is one name, not two. */
function groupOf(key: string): string {
  return /^[^.]+\.(?:[^.]|(?<=\d)\.(?=\d))+/.exec(key)?.[0] ?? key
}

function lineOf({ key, status, error, tolerance, note }: Check, count: number): string {
  const numbers =
    error === undefined ? '' : `  max error ${error.toExponential(1)}  tolerance ${tolerance!.toExponential(0)}`
  const many = count > 1 ? ` (${count} tensors)` : ''
  return `  ${status.padEnd(11)} ${key}${many}${numbers}${note === undefined ? '' : `  ${note}`}`
}

/** Runs fixture folders and prints the report; whether all was as it should be. */
export async function parity(dirs: readonly string[], print: (line: string) => void = console.log): Promise<boolean> {
  const total: Record<Status, number> = { OK: 0, FAIL: 0, 'NOT CHECKED': 0, 'NOT RUN': 0 }
  for (const dir of dirs) {
    try {
      const fixture = new Fixture(dir)
      const compute = await loadKind(fixture.kind)
      for (const run of runs()) {
        print(`${dir}: ${fixture.kind}, ${run.dtype} on ${run.backend.name}`)
        const checks = await check(fixture, run, compute)
        for (const line of report(checks)) print(line)
        for (const { status } of checks) total[status]++
      }
    } catch (error) {
      total.FAIL++
      print(`  FAIL        ${dir}: ${messageOf(error)}`)
    }
  }
  const { OK, FAIL } = total
  print(`${OK} OK, ${FAIL} FAIL, ${total['NOT CHECKED']} NOT CHECKED, ${total['NOT RUN']} not run in f32`)
  return OK > 0 && FAIL === 0 && total['NOT CHECKED'] === 0
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const { dir: dirs } = readFlags({
      command: 'npm run parity --',
      about: 'Computes what a fixture of the official code holds, and compares, key by key.',
      operands: { dir: { about: 'folder of a fixture', many: true } },
      flags: {},
      examples: [['tests/fixtures/dit tests/fixtures/mdt', 'two of them']],
    })
    const backend = await ready({ threads: 1 })
    if (!(await parity(dirs))) process.exitCode = 1
    backend.dispose()
  })
}
