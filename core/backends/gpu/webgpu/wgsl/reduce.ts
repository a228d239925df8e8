/**
 * Sum, maximum and minimum over any axes. Adjacent reduced axes make x an
 * (outer, length, inner) box; groups of axes are reduced one after another. A long `length` is split into chunks whose
 * results are reduced again, which occupies the device and keeps sums short.
 */

import { type ReduceName, reduceIdentity } from '../../../../backend.ts'
import { ceilDiv, reduceGroups, type Shape, sizeOf } from '../../../../shape.ts'
import type { Plan, Step } from '../../program.ts'
import { float, step } from './shader.ts'
import { joins, lanesFor, threads, tree } from './tree.ts'

/** Least and most terms of a lane. */
const leastTerms = 16
const mostTerms = 64
/** Workgroups that occupy a large device. */
const enough = 512

/** A box reduced along its middle axis, and its layout over workgroups. */
export interface Layout {
  readonly outer: number
  readonly length: number
  readonly inner: number
  /** Threads that share a result. */
  readonly lanes: number
  readonly chunks: number
  /** Results: outer · chunks · inner. */
  readonly slots: number
  readonly workgroups: number
}

export function layoutOf(outer: number, length: number, inner: number): Layout {
  const lanes = inner === 1 ? lanesFor(length) : length > leastTerms ? 8 : 1
  const slotsPerGroup = threads / lanes
  const needed = ceilDiv(length, mostTerms * lanes)
  const wanted = Math.ceil((enough * slotsPerGroup) / Math.max(outer * inner, 1))
  // Chunks need a second dispatch, so a length that one pass can do has one chunk.
  const chunks = needed <= 1 ? 1 : Math.max(needed, Math.min(ceilDiv(length, leastTerms * lanes), wanted))
  const slots = outer * chunks * inner
  return { outer, length, inner, lanes, chunks, slots, workgroups: ceilDiv(slots, slotsPerGroup) }
}

/** Returns the parameters that `find` reads. */
export function layoutParams({ length, inner, chunks, slots }: Layout): Record<string, number> {
  return { slots, len: length, inner, chunks, chunk: ceilDiv(length, chunks) }
}

/**
 * Returns the distance between threads that share a result. Neighbours read along `inner`, or along `length` if inner
 * is 1.
 */
export function laneStride({ inner, lanes }: Layout): number {
  return inner === 1 ? 1 : threads / lanes
}

/**
 * WGSL: `slot` and `lane` of a thread, its `outer` and `column`, and the range `first` ≤ l < `end` of its chunk, which
 * is empty past the last slot. Element l is at (outer · len + l) · inner + column.
 */
export function find({ inner, lanes }: Layout): string {
  const S = threads / lanes
  const [own, lane] = inner === 1 ? [`thread / ${lanes}u`, `thread % ${lanes}u`] : [`thread % ${S}u`, `thread / ${S}u`]
  return `
  let slot = group * ${S}u + ${own};
  let lane = ${lane};
  let column = slot % params.inner;
  let above = slot / params.inner;
  let outer = above / params.chunks;
  let first = min((above % params.chunks) * params.chunk, params.len);
  let end = select(first, min(first + params.chunk, params.len), slot < params.slots);`
}

/**
 * Returns steps that reduce buffer `x` (outer, length, inner) into `y` (outer, inner); adds their buffers to `scratch`.
 */
export function reduceSteps(
  name: ReduceName,
  [outer, length, inner]: readonly [number, number, number],
  x: string,
  y: string,
  scratch: Record<string, number>,
): Step[] {
  const layout = layoutOf(outer, length, inner)
  const { chunks, slots } = layout
  if (chunks === 1) return [pass(name, layout, x, y)]
  const partial = `partial${Object.keys(scratch).length}`
  scratch[partial] = slots
  return [pass(name, layout, x, partial), ...reduceSteps(name, [outer, chunks, inner], partial, y, scratch)]
}

/** Returns one dispatch over the slots of `layout`: reduces x into y. */
function pass(name: ReduceName, layout: Layout, x: string, y: string): Step {
  return step(
    {
      name: 'reduce',
      variant: [name, layout.lanes, layout.inner === 1],
      params: { ...layoutParams(layout), identity: float(reduceIdentity[name]) },
      reads: { x: 'f32' },
      writes: { y: 'f32' },
      workgroups: layout.workgroups,
      threads,
      declarations: () => `${joins[name]}\n${tree('all', layout.lanes, 'join(a, b)', laneStride(layout))}`,
      body: () => `${find(layout)}
  var total = params.identity;
  for (var l = first + lane; l < end; l += ${layout.lanes}u) {
    total = join(total, x[(outer * params.len + l) * params.inner + column]);
  }
  total = all(total, thread);
  if (lane == 0u && slot < params.slots) { y[slot] = total; }`,
    },
    { x, y },
  )
}

/** x → y, reduced over `axes` (rising, each once). */
export function reducePlan(name: ReduceName, shape: Shape, axes: readonly number[]): Plan {
  // The last group goes first, so that the layout of the groups before it stays.
  const boxes: [number, number, number][] = []
  const rest = reduceGroups(shape, axes)
  for (let i = rest.length - 1; i >= 0; i--) {
    if (!rest[i].reduced) continue
    const sizes = [rest.slice(0, i), rest.slice(i + 1)].map(groups => sizeOf(groups.map(group => group.extent)))
    boxes.push([sizes[0], rest[i].extent, sizes[1]])
    rest.splice(i, 1)
  }
  if (boxes.length === 0) boxes.push([1, 1, sizeOf(shape)])
  const scratch: Record<string, number> = {}
  let source = 'x'
  const steps = boxes.flatMap((box, i) => {
    const from = source
    source = i === boxes.length - 1 ? 'y' : `box${i}`
    if (source !== 'y') scratch[source] = box[0] * box[2]
    return reduceSteps(name, box, from, source, scratch)
  })
  return { steps, scratch }
}
