/**
 * Parity of every fixture folder in f32 on one backend, a test each: what gpu-parity.test.ts and webgpu/parity.test.ts
 * run. Needs Node.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Backend, setDefaultBackend } from '../../core/index.ts'
import { Fixture } from './fixture.ts'
import { loadKind } from './kind.ts'
import { check, report } from './run.ts'

const fixtures = join(import.meta.dirname, '..', 'fixtures')

/** Registers a test for each fixture folder; `backend` null skips them. */
export function parityOn(test: Test, backend: Backend | null): void {
  for (const name of readdirSync(fixtures)) {
    if (!hasManifest(name)) continue
    const run = backend === null ? test.skip : test
    run(`parity: ${name}`, async () => {
      setDefaultBackend(backend!)
      const fixture = new Fixture(join(fixtures, name))
      const checks = await check(fixture, { backend: backend!, dtype: 'f32' }, await loadKind(fixture.kind))
      const wrong = checks.filter(({ status }) => status === 'FAIL' || status === 'NOT CHECKED')
      assert.equal(report(wrong), [])
    })
  }
}

function hasManifest(name: string): boolean {
  return !name.includes('.') && readdirSync(join(fixtures, name)).includes('manifest.json')
}
