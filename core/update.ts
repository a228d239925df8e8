/**
 * Updates: ops that write tensors in place. An update takes a list of rows, one for each parameter, so that a backend may
 * run one launch for all. Its record names the fields of a row, says which the update writes and gives their new values in
 * plain ops. `update` is the only way an update runs, and the only place that bumps versions for one. Views and detached
 * handles share the storage and follow.
 */

import { anObject, check, checkTensor, type Kind, tensors } from './arguments.ts'
import type { AssignRow, BackendKernels, UpdateKernel } from './backend.ts'
import { addLoops } from './backends/cpu/backend.ts'
import { optimizerLoops } from './backends/cpu/optimizer.ts'
import { noGrad } from './graph.ts'
import { currentObserver } from './op.ts'
import type { Sampler } from './samples.ts'
import { scope } from './scope.ts'
import { ShapeError, sameShape, show } from './shape.ts'
import { ones, type Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

addLoops(optimizerLoops)

/** 'written' and 'read' fields have the shape of the row's first field, a 'scalar' is read and has one element. */
export type FieldRole = 'written' | 'read' | 'scalar'

/** Rows, scalars and attributes on which tests run an update. */
export interface UpdateSample<Row = unknown, Scalars = unknown, Attrs = unknown> {
  readonly rows: readonly Row[]
  readonly scalars: Scalars
  readonly attrs: Attrs
}

/** An in-place op over rows of tensors. Optional fields of a row may be absent. */
export interface Update<Row extends object, Scalars extends object, Attrs> {
  readonly name: string
  readonly fields: { readonly [F in keyof Row]-?: FieldRole }
  /** True if i32 is allowed. */
  readonly integers?: boolean
  /** Throws RangeError: op, expected, got. */
  check?(attrs: Attrs): void
  /** The backend's kernel; undefined where it has none, and `decompose` runs instead. */
  kernel(k: BackendKernels): UpdateKernel<Row, Scalars, Attrs> | undefined
  /** The new values of a row's written fields, in plain ops. */
  decompose(row: Row, scalars: Scalars, attrs: Attrs): Partial<Row>
  /** Floating-point operations for each element that is written, for `profile`. */
  readonly flops: number
  /** Required. Values are f32-representable f64 on `cpu`. */
  samples(r: Sampler): readonly UpdateSample<Row, Scalars, Attrs>[]
}

type Tensors = Readonly<Record<string, Tensor | undefined>>
/** The record with its type parameters forgotten: for tests and tools, which treat all updates alike. */
export type AnyUpdate = Update<Tensors, Tensors, unknown>

const records = new Map<string, AnyUpdate>()

/** All updates, by name. */
export function updates(): ReadonlyMap<string, AnyUpdate> {
  return records
}

/** Registers an update. */
export function defineUpdate<Row extends object, Scalars extends object, Attrs>(
  op: Update<Row, Scalars, Attrs>,
): Update<Row, Scalars, Attrs> {
  if (records.has(op.name)) throw atCaller(new Error(`defineUpdate: there is an update '${op.name}' already`))
  records.set(op.name, op as unknown as AnyUpdate)
  return op
}

/**
 * Writes the rows in place. Where `finite` (one element) is 0, nothing is written. Throws before anything is written:
 * ShapeError, RangeError, and an error on operands of several dtypes or backends or on memory that is written twice.
 */
export function update<Row extends object, Scalars extends object, Attrs>(
  op: Update<Row, Scalars, Attrs>,
  rows: readonly Row[],
  scalars: Scalars,
  attrs: Attrs,
  finite?: Tensor,
): void {
  const erased = op as unknown as AnyUpdate
  check(op.name, 'rows', rows, objects)
  check(op.name, 'scalars', scalars, anObject)
  check(op.name, 'attrs', attrs, anObject)
  op.check?.(attrs)
  if (rows.length === 0) return
  noGrad(() =>
    scope(() => {
      const { backend, dtype } = firstField(erased, rows as readonly Tensors[])
      const flags = { ...scalars, finite: finite ?? ones([], { backend, dtype: dtype === 'i32' ? 'f32' : dtype }) }
      run(erased, rows as readonly Tensors[], flags, attrs)
    }),
  )
}

type Flags = Tensors & { readonly finite: Tensor }

function run(op: AnyUpdate, rows: readonly Tensors[], scalars: Flags, attrs: unknown): void {
  checkRows(op, rows, scalars)
  const kernel = op.kernel(scalars.finite.backend.kernels)
  if (kernel === undefined) {
    for (const row of rows) scope(() => writeDecomposed(op, row, scalars, attrs))
    return
  }
  const observer = currentObserver()
  const start = observer === null ? 0 : performance.now()
  kernel(rows, attrs, scalars)
  for (const row of rows) for (const x of writtenOf(op, row)) x.storage.version++
  if (observer === null) return
  const read = [...rows, scalars].flatMap(row => Object.values(row)).filter(x => x !== undefined)
  const written = rows.flatMap(row => writtenOf(op, row))
  observer(op, read, attrs, written, performance.now() - start)
}

/** Computes a row's new values in plain ops and assigns them: an update on a backend that has no kernel for it. */
export function writeDecomposed(op: AnyUpdate, row: Tensors, scalars: Flags, attrs: unknown): void {
  const values = Object.entries(op.decompose(row, scalars, attrs))
  const rows = values.flatMap(([field, source]) => (source === undefined ? [] : { target: row[field]!, source }))
  run(assignUpdate as unknown as AnyUpdate, rows, { finite: scalars.finite }, {})
}

function firstField(op: AnyUpdate, rows: readonly Tensors[]): Tensor {
  const [name] = Object.keys(op.fields)
  const x = rows[0][name]!
  checkTensor(op.name, name, x)
  return x
}

const objects: Kind = {
  expected: 'a list of objects',
  accepts: value => Array.isArray(value) && value.every(anObject.accepts),
}

function writtenOf(op: AnyUpdate, row: Tensors): Tensor[] {
  return Object.entries(op.fields).flatMap(([field, role]) => (role === 'written' ? (row[field] ?? []) : []))
}

function checkRows(op: AnyUpdate, rows: readonly Tensors[], scalars: Tensors): void {
  const first = firstField(op, rows)
  const [main] = Object.keys(op.fields)
  const check = (what: string, x: Tensor, beside: Tensor | null, dtypes: readonly string[]) => {
    checkTensor(op.name, what, x)
    if (beside === null ? x.size !== 1 : !sameShape(x.shape, beside.shape))
      throw new ShapeError(
        `${op.name}: expected ${what} of shape ${beside === null ? '[]' : show(beside.shape)}, got ${show(x.shape)}`,
      )
    if (x.backend !== first.backend || !dtypes.includes(x.dtype))
      throw atCaller(
        new Error(
          `${op.name}: expected ${what} in ${dtypes.join(' or ')} on ${first.backend.name}, got ${x.dtype} on ${x.backend.name}`,
        ),
      )
  }
  const dtypes = first.dtype === 'i32' && op.integers !== true ? ['f32', 'f64'] : [first.dtype]
  const owners = new Map<unknown, Tensors>()
  for (const row of rows) {
    for (const [field, role] of Object.entries(op.fields)) {
      const x = row[field]
      if (x !== undefined) check(field, x, role === 'scalar' ? null : row[main]!, dtypes)
    }
    for (const { storage, shape } of writtenOf(op, row)) {
      if (owners.has(storage))
        throw atCaller(
          new Error(`${op.name}: expected each tensor to be written once, got one of shape ${show(shape)} twice`),
        )
      owners.set(storage, row)
    }
  }
  for (const [name, x] of Object.entries(scalars)) if (x !== undefined) check(name, x, null, ['f32', 'f64'])
  for (const row of rows)
    for (const x of Object.values(row))
      if (x !== undefined && (owners.get(x.storage) ?? row) !== row)
        throw atCaller(
          new Error(
            `${op.name}: expected rows that read nothing other rows write, got one of shape ${show(x.shape)} in two rows`,
          ),
        )
}

// Here and not in ops/update.ts, because a decomposition ends in an assignment.
const assignUpdate = defineUpdate<AssignRow<Tensor>, object, object>({
  name: 'assign',
  fields: { target: 'written', source: 'read' },
  integers: true,
  kernel: k => k.assign,
  decompose: ({ source }) => ({ target: source }),
  flops: 0,
  samples: r => [
    {
      rows: [[3, 1, 5], [1031], []].map(shape => ({ target: r(...shape), source: r(...shape) })),
      scalars: {},
      attrs: {},
    },
    { rows: [{ target: r.indices(9, 7), source: r.indices(9, 7) }], scalars: {}, attrs: {} },
  ],
})

/**
 * target ← source for each pair, of equal shapes (…) and dtypes. Where `finite` (one element) is 0 nothing is written.
 * Throws ShapeError.
 */
export function assign(targets: readonly Tensor[], sources: readonly Tensor[], finite?: Tensor): void {
  update(assignUpdate, pairs('assign', targets, sources), {}, {}, finite)
}

/** Targets and sources as rows. Throws RangeError when there are not as many of one as of the other. */
export function pairs(op: string, targets: readonly Tensor[], sources: readonly Tensor[]): AssignRow<Tensor>[] {
  check(op, 'targets', targets, tensors)
  check(op, 'sources', sources, tensors)
  if (targets.length !== sources.length)
    throw atCaller(
      new RangeError(`${op}: expected as many sources as targets, got ${sources.length} and ${targets.length}`),
    )
  return targets.map((target, i) => ({ target, source: sources[i] }))
}
