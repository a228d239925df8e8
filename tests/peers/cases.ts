/** Cases as pytorch_samples.py writes them: calls with operands and PyTorch's results, in cases.json and tensors.bin. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { viewOf } from '../../core/dtype.ts'
import type { DType } from '../../core/index.ts'

/** A tensor in tensors.bin. */
export type Stored = readonly [dtype: DType, shape: readonly number[], firstByte: number]

/** An argument of a call as JSON has it. */
export type Argument =
  | null
  | number
  | string
  | boolean
  | readonly Argument[]
  | { readonly operand: number }
  | { readonly constant: number }
  | { readonly number: string }
  | { readonly options: Readonly<Record<string, Argument>> }

/** Compared quantities: results, gradients by the float operands, and second derivatives by those and the cotangents. */
export const quantities = ['values', 'first', 'second'] as const
export type Quantity = (typeof quantities)[number]

/** One call. The reference is PyTorch's f64; `…32` is PyTorch's own f32 result, null for integers. */
export interface Case extends Readonly<Partial<Record<Quantity | `${Quantity}32`, readonly Stored[] | null>>> {
  readonly op: string
  /** Operators of pytorch_calls.py, or functions of pytorch_functions.py. */
  readonly part: 'ops' | 'functions'
  readonly tag: string
  readonly call: string
  readonly args: readonly Argument[]
  /** Errors are measured per element rather than against the largest one. */
  readonly elementwise: boolean
  readonly operands: readonly Stored[]
  readonly constants: readonly Stored[]
  /** Absent if the call has no gradient. */
  readonly random?: { readonly cotangents: readonly Stored[]; readonly directions: readonly Stored[] }
  readonly values: readonly Stored[]
}

/** A folder of cases. */
export interface Cases {
  readonly torch: string
  readonly cases: readonly Case[]
  /** Samples that were left out, by operator and option. */
  readonly unsupported: Readonly<Record<string, number>>
  /** The elements of a tensor. */
  read(stored: Stored): ReturnType<typeof viewOf>
}

/** Opens a folder that pytorch_samples.py or `--record` wrote. */
export function openCases(folder: string): Cases {
  const binary = new Uint8Array(readFileSync(join(folder, 'tensors.bin'))).buffer
  return {
    ...JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')),
    read: ([dtype, shape, firstByte]) =>
      viewOf(
        dtype,
        binary,
        firstByte,
        shape.reduce((a, b) => a * b, 1),
      ),
  }
}
