/**
 * Assembles hand-written shaders. The `…Plan` functions of this folder take shapes and return a `Plan`. They are pure,
 * so plans are kept by shape. Shapes travel in the uniform block, so that one shader serves a class of shapes. All
 * elements are f32 and all indices u32. A buffer that is written must not be among those that are read.
 */

import type { Program, Step } from '../../program.ts'

/** An unsigned integer, or an f32 marked by `float`. */
type Param = number | { readonly float: number }

/** Marks a parameter that the shader sees as f32. */
export function float(value: number): Param {
  return { float: value }
}

/** `f32`, or `vec4f` where four elements are read or written at once. */
type Element = 'f32' | 'vec4f'

/** Parts of a shader. */
export interface Source {
  readonly name: string
  /** Everything that `body` and `declarations` depend on, beside `name`. */
  readonly variant: readonly (string | number | boolean)[]
  /** Fields of `params`, after the number of workgroups. */
  readonly params: Readonly<Record<string, Param>>
  /** Buffers of one element, each a `vec4f` whose x is the element. They lie before the others. */
  readonly scalars?: readonly string[]
  /** Storage buffers in the order of their bindings. */
  readonly reads: Readonly<Record<string, Element>>
  readonly writes: Readonly<Record<string, Element>>
  readonly workgroups: number
  /** Threads of a workgroup: at most 256. */
  readonly threads: number
  /** Workgroup memory and functions. */
  readonly declarations?: () => string
  /** Statements of `main`, with `params`, `group` (number of the workgroup) and `thread` (index in the workgroup). */
  readonly body: () => string
}

/** Returns the step of a shader. `names` maps buffers of the source to those of the plan where the names differ. */
export function step(source: Source, names: Readonly<Record<string, string>> = {}): Step {
  const { name, variant, params, scalars = [], reads, writes, workgroups } = source
  const program: Program = {
    key: [name, ...variant].join(' '),
    code: () => assemble(source),
    params: pack({ workgroups, ...params }),
    scalars: scalars.length,
    reads: Object.keys(reads).length,
    writes: Object.keys(writes).length,
    workgroups,
  }
  return { program, buffers: [...scalars, ...Object.keys(reads), ...Object.keys(writes)].map(own => names[own] ?? own) }
}

function pack(params: Readonly<Record<string, Param>>): Uint32Array {
  const values = Object.values(params)
  const data = new DataView(new ArrayBuffer(4 * values.length))
  values.forEach((value, i) => {
    if (typeof value === 'number') data.setUint32(4 * i, value, true)
    else data.setFloat32(4 * i, value.float, true)
  })
  return new Uint32Array(data.buffer)
}

/** WGSL of a shader, with entry point `main`. */
export function assemble({
  params,
  scalars = [],
  reads,
  writes,
  threads,
  declarations,
  body,
}: Omit<Source, 'name' | 'variant' | 'workgroups'>): string {
  const fields = Object.entries(params).map(([field, v]) => `${field}: ${typeof v === 'number' ? 'u32' : 'f32'}`)
  const buffers = [
    ...scalars.map(scalar => `var<uniform> ${scalar}: vec4f`),
    ...Object.entries(reads).map(([buffer, element]) => `var<storage, read> ${buffer}: array<${element}>`),
    ...Object.entries(writes).map(([buffer, element]) => `var<storage, read_write> ${buffer}: array<${element}>`),
  ]
  return `struct Params { ${['workgroups: u32', ...fields].join(', ')} }
@group(0) @binding(0) var<uniform> params: Params;
${buffers.map((buffer, i) => `@group(0) @binding(${i + 1}) ${buffer};`).join('\n')}
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
