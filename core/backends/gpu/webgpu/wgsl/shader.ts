/**
 * What a hand-written shader needs to run. The `…Plan` functions of this folder take shapes and give a `Plan`: dispatches
 * in order, the buffers that each binds, by name, and the scratch that they share. They are pure, so plans can be kept by
 * shape; ../webgpu.ts encodes them. Shapes travel in a uniform block, so that shaders are compiled once for a class of
 * shapes. All elements are f32, indices u32; a buffer that is written must be none of those that are read.
 * Next: tree.ts, reduce.ts, softmax.ts, norm.ts; matmul.ts, tile.ts; attention.ts.
 */

import { ceilDiv } from '../../../../shape.ts'

/** A compute shader with the numbers of one call. */
export interface Program {
  /** Programs with the same key have the same code. */
  readonly key: string
  /** WGSL with entry point `main`. Called when a pipeline is built, not for every launch. */
  readonly code: () => string
  /** The uniform block, at binding 0 of group 0; its first word is `workgroups`. */
  readonly params: ArrayBuffer
  /** How many; `folded` says how they are laid out. */
  readonly workgroups: number
}

/** One dispatch of a plan. */
export interface Step {
  readonly program: Program
  /** Names of the buffers at bindings 1, 2, … of group 0. Those that are written come last. */
  readonly buffers: readonly string[]
}

/** Dispatches that give one kernel's results. Later steps read what earlier ones wrote. */
export interface Plan {
  readonly steps: readonly Step[]
  /** Buffers that the steps need for themselves: elements by name. Their contents do not matter before or after. */
  readonly scratch: Readonly<Record<string, number>>
}

/** An unsigned whole number, or an f32 as `float` marks it. */
type Param = number | { readonly float: number }

/** Marks a parameter that the shader sees as f32. */
export function float(value: number): Param {
  return { float: value }
}

/** `f32`, or `vec4f` where four elements are read or written at once. */
type Element = 'f32' | 'vec4f'

/** A shader before it is put together. */
export interface Source {
  readonly name: string
  /** All that `body` and `declarations` depend on, beside `name`. */
  readonly variant: readonly (string | number | boolean)[]
  /** Fields of `params`, after the number of workgroups. */
  readonly params: Readonly<Record<string, Param>>
  /** Buffers in the order of their bindings. */
  readonly reads: Readonly<Record<string, Element>>
  readonly writes: Readonly<Record<string, Element>>
  readonly workgroups: number
  /** Invocations of a workgroup: at most 256. */
  readonly threads: number
  /** Workgroup memory and functions. */
  readonly declarations?: () => string
  /** Statements of `main`, which see `params`, `group` (the workgroup's number) and `thread` (within the workgroup). */
  readonly body: () => string
}

/** Puts a shader together. `names` says which buffers of the plan it binds where they are not called as in the source. */
export function step(source: Source, names: Readonly<Record<string, string>> = {}): Step {
  const { name, variant, params, reads, writes, workgroups } = source
  const program: Program = {
    key: [name, ...variant].join(' '),
    code: () => assemble(source),
    params: pack({ workgroups, ...params }),
    workgroups,
  }
  return { program, buffers: [...Object.keys(reads), ...Object.keys(writes)].map(own => names[own] ?? own) }
}

function pack(params: Readonly<Record<string, Param>>): ArrayBuffer {
  const values = Object.values(params)
  const data = new DataView(new ArrayBuffer(4 * values.length))
  values.forEach((value, i) => {
    if (typeof value === 'number') data.setUint32(4 * i, value, true)
    else data.setFloat32(4 * i, value.float, true)
  })
  return data.buffer as ArrayBuffer
}

function assemble({ params, reads, writes, threads, declarations, body }: Source): string {
  const fields = Object.entries(params).map(([field, v]) => `${field}: ${typeof v === 'number' ? 'u32' : 'f32'}`)
  const buffers = [
    ...Object.entries(reads).map(([buffer, element]) => ['read', buffer, element]),
    ...Object.entries(writes).map(([buffer, element]) => ['read_write', buffer, element]),
  ]
  return `struct Params { ${['workgroups: u32', ...fields].join(', ')} }
@group(0) @binding(0) var<uniform> params: Params;
${buffers.map(([access, buffer, element], i) => `@group(0) @binding(${i + 1}) var<storage, ${access}> ${buffer}: array<${element}>;`).join('\n')}
${declarations?.() ?? ''}
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = id.y * grid.x + id.x;
  if (group >= params.workgroups) { return; }
${body()}
}
`
}

/** Most workgroups along one dimension of a dispatch. */
const maxGrid = 65_535

/** A grid (x, y) with room for `workgroups`; those too many return at once. */
export function folded(workgroups: number): [number, number] {
  const y = ceilDiv(workgroups, maxGrid)
  return [ceilDiv(workgroups, Math.max(y, 1)), y]
}
