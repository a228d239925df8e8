/**
 * Parity with the reference implementations on every fixture folder, and the runner itself: what is changed in a copy of
 * a fixture must be found and named. Needs Node.
 */

import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ready } from '../../core/ready.ts'
import type { HostTensor } from '../../io/safetensors.ts'
import { readSafetensors, writeSafetensors } from '../../io/safetensors-node.ts'
import { toleranceOf, whyOnlyInF64 } from './compare.ts'
import { parity } from './run.ts'

const fixtures = join(import.meta.dirname, '../fixtures')
const backend = await ready({ threads: 1 })
const scratch = mkdtempSync(join(tmpdir(), 'parity-'))

test.after(() => {
  backend.dispose()
  rmSync(scratch, { recursive: true })
})

/** Runs a folder of fixtures; returns its success, and the lines of its report that name a problem. */
async function problemsOf(dir: string): Promise<{ ok: boolean; problems: string[]; lines: string[] }> {
  const lines: string[] = []
  const ok = await parity([dir], line => lines.push(line))
  return { ok, problems: lines.filter(line => /^ {2}(FAIL|NOT CHECKED)/.test(line)), lines }
}

const folders = readdirSync(fixtures, { withFileTypes: true }).filter(
  entry => entry.isDirectory() && readdirSync(join(fixtures, entry.name)).includes('manifest.json'),
)

for (const { name } of folders)
  test(`parity: ${name}`, async () => {
    const { ok, problems, lines } = await problemsOf(join(fixtures, name))
    assert.equal(problems, [])
    assert.ok(ok)
    assert.ok(
      lines.some(line => line.includes('f64 on cpu')) && lines.some(line => line.includes(`f32 on ${backend.name}`)),
    )
  })

type Tensors = Map<string, HostTensor<ArrayLike<number>>>
type Manifest = {
  kind: string
  keys: Record<string, { shape: number[]; desc?: string }>
  scalars: Record<string, { value: number }>
  param_count: Record<string, number>
  train?: { lr: number }
}

/** A copy of fixture `name` with changes. */
async function changed(name: string, change: (tensors: Tensors, manifest: Manifest) => void): Promise<string> {
  const dir = mkdtempSync(join(scratch, `${name}-`))
  cpSync(join(fixtures, name), dir, { recursive: true })
  const manifest: Manifest = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'))
  const tensors: Tensors = new Map(readSafetensors(join(dir, 'fixture.safetensors')).tensors)
  change(tensors, manifest)
  writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest))
  await writeSafetensors(join(dir, 'fixture.safetensors'), tensors)
  return dir
}

/** Adds ten tolerances to element `at` of a result, 1 to an integer. */
function shift(tensors: Tensors, key: string, { kind, train }: Manifest, precision: 'f32' | 'f64', at = 0): void {
  const { dtype, shape, data } = tensors.get(key)!
  const moved = Float64Array.from(data)
  const largest = moved.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  const tolerances = 10 * toleranceOf(kind, key, precision, train?.lr ?? 0) * (largest < 1e-12 ? 1 : largest)
  moved[at] += dtype.startsWith('F') ? tolerances : 1
  tensors.set(key, { dtype, shape, data: moved })
}

function rename(tensors: Tensors, from: string, to: string): void {
  tensors.set(to, tensors.get(from)!)
  tensors.delete(from)
}

/** Runs a changed fixture, which must fail and name `wanted` in both runs, or in f64 alone. */
async function fails(dir: string, wanted: RegExp, times = 2): Promise<void> {
  const { ok, problems } = await problemsOf(dir)
  assert.not.ok(ok)
  assert.is(problems.filter(line => wanted.test(line)).length, times, problems.join('\n'))
}

for (const { name } of folders)
  test(`every result of ${name}, ten tolerances off, is found and named`, async () => {
    const keys: string[] = []
    let kind = ''
    const dir = await changed(name, (tensors, manifest) => {
      kind = manifest.kind
      keys.push(...[...tensors.keys()].filter(key => !/^(in|param)\./.test(key)))
      for (const key of keys) shift(tensors, key, manifest, 'f32')
    })
    const { problems } = await problemsOf(dir)
    for (const key of keys)
      assert.is(
        problems.filter(line => line.startsWith(`  FAIL        ${key}  max error`)).length,
        whyOnlyInF64(kind, key) === null ? 2 : 1,
        key,
      )
  })

for (const [fixture, key] of [
  ['dit', 'out.forward'],
  ['mdt-v2', 'grad.mask_token'],
  ['sampling-mdt', 'out.ddim_eta0.5'],
  ['trajectory-mdt', 'out.final.de_blocks.1.mlp.fc2.bias'],
] as const)
  test(`ten tolerances of f64 show in f64 alone: ${key} of ${fixture}`, async () => {
    const dir = await changed(fixture, (tensors, manifest) => shift(tensors, key, manifest, 'f64', 1))
    await fails(dir, new RegExp(`FAIL +${key} .*max error`), 1)
  })

test('a value at t = 0 is checked in f64 alone', async () => {
  const dir = await changed('dit', (tensors, manifest) => shift(tensors, 'out.t0_vb', manifest, 'f64'))
  await fails(dir, /FAIL +out\.t0_vb /, 1)
  const { lines } = await problemsOf(dir)
  assert.ok(lines.some(line => /NOT RUN +out\.t0_vb/.test(line)))
})

test('the key third of qkv.bias is left out of final weights in f32, the rest is not', async () => {
  const key = 'out.final.de_blocks.0.attn.qkv.bias'
  const [inKeys, inQueries] = await Promise.all(
    [20, 3].map(at => changed('trajectory-mdt', (tensors, manifest) => shift(tensors, key, manifest, 'f32', at))),
  )
  await fails(inKeys, /FAIL +out\.final\.de_blocks\.0\.attn\.qkv\.bias/, 1)
  await fails(inQueries, /FAIL +out\.final\.de_blocks\.0\.attn\.qkv\.bias/, 2)
})

test('the respacing of a loop is that of its description', async () => {
  const respaced = (timesteps: readonly number[]) =>
    changed('sampling-dit', (tensors, { keys }) => {
      for (const name of ['out.ddpm', 'in.ddpm_noise']) {
        tensors.delete(name)
        delete keys[name]
      }
      keys['out.ddpm_timesteps'] = { shape: [6], desc: 'original timesteps visited, respacing "2,3,1"' }
      tensors.set('out.ddpm_timesteps', { dtype: 'I32', shape: [6], data: timesteps })
    })
  // Sections of 334, 333 and 333 timesteps, each from its first to its last.
  const { ok, problems } = await problemsOf(await respaced([667, 666, 500, 334, 333, 0]))
  assert.equal([ok, problems], [true, []])
  await fails(await respaced([999, 799, 599, 400, 200, 0]), /FAIL +out\.ddpm_timesteps /)
})

test('a NaN is found', async () => {
  const dir = await changed('dit', tensors => {
    const { data, ...rest } = tensors.get('out.block0')!
    tensors.set('out.block0', { ...rest, data: Float64Array.from(data, (x, i) => (i === 7 ? Number.NaN : x)) })
  })
  await fails(dir, /FAIL +out\.block0 /)
})

for (const [fixture, from, to] of [
  ['dit', 'out.block0', 'out.block9'],
  ['dit', 'grad.blocks.0.mlp.fc1.bias', 'grad.blocks.0.mlp.fc3.bias'],
  ['mdt-v1', 'out.cfg_pow4.0', 'out.cfg_pow4.0_renamed'],
] as const)
  test(`a renamed result is found: ${to}`, async () => {
    const inBoth = await changed(fixture, (tensors, { keys }) => {
      rename(tensors, from, to)
      keys[to] = keys[from]
      delete keys[from]
    })
    await fails(inBoth, new RegExp(`NOT CHECKED +${to}`))
    const inFile = await changed(fixture, tensors => rename(tensors, from, to))
    await fails(inFile, new RegExp(`NOT CHECKED +${to}`))
    await fails(inFile, new RegExp(`FAIL +${from} .*the file lacks it`))
  })

test('a renamed input is found', async () => {
  const dir = await changed('dit', (tensors, { keys }) => {
    rename(tensors, 'in.loss_noise', 'in.lost_noise')
    keys['in.lost_noise'] = keys['in.loss_noise']
    delete keys['in.loss_noise']
  })
  await fails(dir, /NOT CHECKED +in\.lost_noise/, 1)
  await fails(dir, /FAIL +out\.loss_mse .*'in\.loss_noise'/)
})

test('a renamed parameter is found', async () => {
  const dir = await changed('mdt-v1', tensors => rename(tensors, 'param.mask_token', 'param.masked_token'))
  await fails(dir, /missing: mask_token; unexpected: masked_token/, 1)
})

test('altered scalars are found', async () => {
  const altered = async (change: (manifest: Manifest) => void) => changed('dit', (_, manifest) => change(manifest))
  await fails(await altered(({ scalars }) => (scalars.loss_mean.value *= 1 + 1e-3)), /FAIL +scalar\.loss_mean /)
  await fails(await altered(({ scalars }) => (scalars.loss_mean_f32cast.value += 1e-3)), /FAIL +scalar\.loss_mean_f32/)
  await fails(await altered(({ param_count }) => (param_count.trainable += 1)), /FAIL +scalar\.param_count\.trainable/)
  // A setting shows in what is computed with it, and the line names it.
  await fails(
    await altered(({ scalars }) => (scalars.cfg_scale.value = 4.5)),
    /forward_with_cfg .*with cfg_scale = 4\.5/,
  )
  await fails(await altered(({ scalars }) => (scalars.other = { value: 1 })), /NOT CHECKED +scalar\.other/)
})

test('a shape that differs between file, manifest and model is found', async () => {
  const dir = await changed('dit', tensors => {
    const { dtype, shape, data } = tensors.get('out.t_emb')!
    tensors.set('out.t_emb', { dtype, shape: [...shape].reverse(), data })
  })
  await fails(dir, /FAIL +out\.t_emb .*expected shape \[24, 4\], got \[4, 24\]/)
  await fails(dir, /FAIL +out\.t_emb .*the manifest says shape \[4,24\]/)
})

test('a setting or kind that is not known, and a folder that is no fixture, are one line each', async () => {
  const kind = await changed('dit', (_, manifest) => (manifest.kind = 'unheard-of'))
  await fails(kind, /unknown fixture kind 'unheard-of'; known: .*dit/, 1)
  const setting = await changed('dit', (_, manifest) => Object.assign(manifest, { config: { windows: 3 } }))
  await fails(setting, /settings that are known here, got windows/, 1)
  await fails(join(scratch, 'nowhere'), /FAIL .*nowhere.*ENOENT/, 1)
})

test('the command prints its report and says by its exit code whether all was well', async () => {
  const command = (dir: string) =>
    spawnSync(process.execPath, [...process.execArgv, join(import.meta.dirname, 'run.ts'), dir], {
      encoding: 'utf8',
    })
  const fine = command(join(fixtures, 'sampling-dit'))
  assert.is(fine.status, 0)
  assert.match(fine.stdout, /OK +out\.ddpm +max error .* tolerance 1e-8/)
  const bad = command(await changed('sampling-dit', tensors => rename(tensors, 'out.ddpm', 'out.dpm')))
  assert.is(bad.status, 1)
  assert.match(bad.stdout, /NOT CHECKED +out\.dpm\n/)
})

test.run()
