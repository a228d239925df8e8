/** `ready` opens one backend: the same options return it, others are refused, and after `dispose` it opens another. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpu, defaultBackend, ready, setDefaultBackend } from '../../core/index.ts'

test('the same options return the first backend, also while it is loading; others throw', async () => {
  const [first, meanwhile] = await Promise.all([1, 2].map(() => ready({ backend: 'wasm', threads: 1 })))
  assert.is(first, meanwhile)
  setDefaultBackend(cpu)
  assert.is(await ready({ threads: 1, backend: 'wasm' }), first)
  assert.is(defaultBackend(), first)
  const refusal = (options?: Parameters<typeof ready>[0]) => ready(options).catch((error: Error) => error.message)
  const wanted = 'ready: expected the options of the first call, { backend: wasm, threads: 1 }, got'
  assert.is(await refusal({ backend: 'wasm', threads: 2 }), `${wanted} { backend: wasm, threads: 2 }`)
  assert.is(await refusal(), `${wanted} { backend: any, threads: any }`)
  assert.is(defaultBackend(), first)
  first.dispose()
  assert.ok(first.disposed)
  const second = await ready({ backend: 'wasm', threads: 2 })
  assert.is.not(second, first)
  second.dispose()
})

test('a call that failed does not count', async () => {
  const failed = await ready({ backend: 'wasm', threads: -1 }).catch((error: Error) => error)
  assert.instance(failed, Error)
  assert.is(await ready({ backend: 'cpu' }), cpu)
})

test.run()
