/**
 * The walk over all updates on one backend: every update × every sample, by its kernel and by its decomposition. Values
 * against `cpu` in f64; nothing written where `finite` is 0; the versions of what is written, and of nothing else, bumped
 * once; memory kept, and no bytes left behind. Used by registry.test.ts and webgpu/registry.test.ts.
 */

import { type Backend, full, noGrad, observe, scope, type Tensor, tensor, update } from '../../core/index.ts'
import { sampler } from '../../core/samples.ts'
import { type AnyUpdate, type UpdateSample, writeDecomposed } from '../../core/update.ts'
import { distance, report } from './registry-walk.ts'

type Row = Readonly<Record<string, Tensor | undefined>>
type Way = 'kernel' | 'decomposition'
type Move = (x: Tensor) => Tensor

const mapRow = (row: Row, f: Move): Row =>
  Object.fromEntries(Object.entries(row).map(([field, x]) => [field, x && f(x)]))

/** The tensors of a row that the update writes, or those it reads. */
function fieldsOf(op: AnyUpdate, row: Row, written: boolean): { field: string; x: Tensor }[] {
  return Object.entries(op.fields).flatMap(([field, role]) => {
    const x = row[field]
    return x === undefined || (role === 'written') !== written ? [] : [{ field, x }]
  })
}

function runBy(way: Way, op: AnyUpdate, rows: readonly Row[], scalars: Row, attrs: unknown, finite: Tensor): void {
  if (way === 'kernel') update(op, rows, scalars, attrs, finite)
  else for (const row of rows) noGrad(() => scope(() => writeDecomposed(op, row, { ...scalars, finite }, attrs)))
}

/** A copy of a tensor. */
function copied(x: Tensor): Tensor {
  const { shape, dtype, backend } = x
  return tensor(x.dataSync(), { shape, dtype, backend })
}

/** The written fields of all rows after the update on `cpu` in f64, by its kernel. */
function reference(op: AnyUpdate, { rows, scalars, attrs }: UpdateSample<Row, Row>): Float64Array[] {
  return scope(() => {
    const copies = rows.map(row => mapRow(row, copied))
    update(op, copies, scalars, attrs)
    return copies.flatMap(row => fieldsOf(op, row, true).map(({ x }) => Float64Array.from(x.dataSync())))
  })
}

/** Runs one sample one way. Returns what is wrong. */
async function compare(
  op: AnyUpdate,
  sample: UpdateSample<Row, Row>,
  wanted: readonly Float64Array[],
  { backend, dtype, move }: Place,
  way: Way,
  finite: 0 | 1,
): Promise<string[]> {
  const found: string[] = []
  const before = backend.stats()
  const rows = sample.rows.map(row => mapRow(row, move))
  const scalars = mapRow(sample.scalars, move)
  const flag = full([], finite, { backend, dtype })
  const written = rows.flatMap(row => fieldsOf(op, row, true))
  const read = rows.flatMap(row => fieldsOf(op, row, false))
  const start: ArrayLike<number>[] = []
  for (const { x } of written) start.push(await x.data())
  const versions = (fields: typeof written) => fields.map(({ x }) => x.storage.version)
  const [writtenBefore, readBefore] = [versions(written), versions(read)]
  const storages = written.map(({ x }) => x.storage)
  let seen = 0
  observe(
    (seenOp, _, __, results) => {
      if (seenOp.name === op.name && results.every((y, i) => y === written[i].x)) seen++
    },
    () => runBy(way, op, rows, scalars, sample.attrs, flag),
  )
  if (way === 'kernel' && op.kernel(backend.kernels) !== undefined && seen !== 1) found.push(`observed ${seen} times`)
  if (!versions(written).every((version, i) => version === writtenBefore[i] + 1)) found.push('versions not bumped by 1')
  if (!versions(read).every((version, i) => version === readBefore[i])) found.push('the version of an input changed')
  for (const [i, { field, x }] of written.entries()) {
    if (x.storage !== storages[i]) found.push(`${field} has other memory`)
    const got = await x.data()
    if (finite === 0) {
      if (distance(got, start[i], Number.MIN_VALUE) > 0) found.push(`${field} was written where finite is 0`)
      continue
    }
    const limit = dtype === 'f64' ? 1e-13 : 2e-6
    const units = distance(got, wanted[i], limit)
    if (units > 1)
      found.push(`${field} [${x.shape}]: ${units.toPrecision(3)} × the tolerance ${limit.toExponential(1)}`)
  }
  for (const x of [...rows, scalars].flatMap(row => Object.values(row))) x?.dispose()
  flag.dispose()
  const after = backend.stats()
  if (after.bytes !== before.bytes) found.push(`${after.bytes - before.bytes} bytes left behind`)
  if (after.fallbacks !== before.fallbacks) found.push('a kernel ran on a fallback loop')
  return found.map(what => `${op.name} by its ${way}, finite ${finite}: ${what}`)
}

interface Place {
  readonly backend: Backend
  readonly dtype: 'f64' | 'f32'
  readonly move: Move
}

/** Runs all samples of an update on a backend, in f64 or f32. Throws an assertion with a line for all that is wrong. */
export async function walkUpdate(op: AnyUpdate, backend: Backend, dtype: 'f64' | 'f32'): Promise<void> {
  const found: string[] = []
  const samples = scope(() => op.samples(sampler(7))) as readonly UpdateSample<Row, Row>[]
  const move: Move = x => tensor(x.dataSync(), { shape: x.shape, dtype: x.dtype === 'i32' ? 'i32' : dtype, backend })
  for (const sample of samples) {
    const wanted = reference(op, sample)
    for (const way of ['kernel', 'decomposition'] as const)
      for (const finite of [1, 0] as const)
        found.push(...(await compare(op, sample, wanted, { backend, dtype, move }, way, finite)))
    for (const x of [...sample.rows, sample.scalars].flatMap(row => Object.values(row))) x?.dispose()
  }
  report(found)
}
