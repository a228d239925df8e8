/** The functions that read and write safetensors in memory answer wrong calls in one line that begins with their name. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import * as io from '../../io/index.ts'
import { type RightCall, testCalls } from '../core/wrong-calls.ts'

const tensors = () => new Map([['w', { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }]] as const)
const metadata = () => new Map([['format', 'pt']])
const bytes = () => io.encodeSafetensors(tensors())
const header = () => bytes().subarray(8, 8 + io.safetensorsHeaderLength(bytes(), bytes().length, 'file'))

const calls: Record<string, readonly [args: () => readonly unknown[], accepts?: readonly string[]]> = {
  decodeSafetensors: [() => [bytes(), 'file'], ['1 string']],
  encodeSafetensors: [() => [tensors(), metadata()], ['1 arguments']],
  encodeSafetensorsHeader: [() => [tensors(), metadata()]],
  parseSafetensorsHeader: [() => [header(), bytes().length, 'file'], ['2 string']],
  safetensorsHeaderLength: [() => [bytes(), bytes().length, 'file'], ['2 string']],
}

const named = io as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(
  test,
  Object.fromEntries(
    Object.entries(calls).map(([name, [args, accepts]]) => [name, { call: named[name], args, accepts }]),
  ),
)

test('an ArrayBuffer, as fetch returns one, is refused', () => {
  const { buffer } = bytes()
  assert.throws(
    () => io.decodeSafetensors(buffer as unknown as Uint8Array),
    /^decodeSafetensors: expected bytes to be a Uint8Array, got an instance of ArrayBuffer$/,
  )
})

test.run()
