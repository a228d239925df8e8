/**
 * Writes the smallest cases of every operator to a folder, for a check without Python: those that differ in the most ways
 * from each other come first, up to a number of cases and of bytes.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bytesPerElement } from '../../core/dtype.ts'
import { type Case, type Cases, quantities, type Stored } from './cases.ts'

const mostElements = 120

/** Writes cases.json and tensors.bin: at most `mostCases` of each operator of a part. */
export function recordCases(cases: Cases, part: Case['part'], mostCases: number, folder: string): void {
  const byOp = new Map<string, Case[]>()
  for (const given of cases.cases) {
    if (given.part !== part) continue
    const integers = given.operands.some(([dtype]) => dtype !== 'i32') ? '' : ' of integers'
    const key = given.op + integers
    byOp.set(key, [...(byOp.get(key) ?? []), given])
  }
  const chosen = [...byOp.values()].flatMap(all => choose(all, mostCases))
  const parts: Uint8Array[] = []
  let length = 0
  const move = (stored: Stored): Stored => {
    const data = cases.read(stored)
    const bytes = new Uint8Array(8 * Math.ceil(data.byteLength / 8)) // f64 begin at a multiple of 8
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    parts.push(bytes)
    length += bytes.length
    return [stored[0], stored[1], length - bytes.length]
  }
  const moved = chosen.map(given => mapTensors(given, move))
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'tensors.bin'), Buffer.concat(parts))
  const lines = moved.map(given => JSON.stringify(given))
  writeFileSync(
    join(folder, 'cases.json'),
    `{"torch":${JSON.stringify(cases.torch)},"unsupported":{},"cases":[\n${lines.join(',\n')}\n]}\n`,
  )
}

/** Spread over the samples of an operator, without large ones. */
function choose(all: readonly Case[], mostCases: number): Case[] {
  const small = all.filter(given => elementsOf(given) <= mostElements)
  const count = Math.min(mostCases, small.length)
  return Array.from({ length: count }, (_, i) => small[Math.floor((i * small.length) / count)])
}

function elementsOf({ operands, constants, values }: Case): number {
  const size = ([dtype, shape]: Stored) => shape.reduce((a, b) => a * b, bytesPerElement[dtype] / 4)
  return [...operands, ...constants, ...values].reduce((sum, stored) => sum + size(stored), 0)
}

/** The case with every tensor replaced. */
function mapTensors(given: Case, move: (stored: Stored) => Stored): Case {
  const names = quantities.flatMap(name => [name, `${name}32`] as const)
  return {
    ...given,
    operands: given.operands.map(move),
    constants: given.constants.map(move),
    ...(given.random && {
      random: { cotangents: given.random.cotangents.map(move), directions: given.random.directions.map(move) },
    }),
    ...Object.fromEntries(names.flatMap(name => (given[name] ? [[name, given[name].map(move)]] : []))),
  }
}
