/**
 * Sums and maxima over some invocations of a workgroup, and how rows are laid over workgroups. A row belongs to `lanes`
 * invocations: each adds every lanes-th term, and a tree through workgroup memory adds the rest, so that no f32 sum is
 * long. Next: reduce.ts.
 */

/** Invocations of a workgroup that reduces. */
export const threads = 256

/** Lanes for a row of `length`: a power of four, so that few shaders do for all lengths and a lane has some 2 to 8 terms. */
export function lanesFor(length: number): number {
  let lanes = 1
  while (lanes < threads && length > 8 * lanes) lanes *= 4
  return lanes
}

/**
 * WGSL for what is not a number or infinite, which WGSL's own max, exp and log may drop, by bits: tests that no compiler
 * removes. `lowest` is the lowest finite number: from -Infinity itself the distance to another is not a number.
 */
export const keepNaN = `const lowest = -3.40282346e38f;
fn isNaN(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn exponential(x: f32) -> f32 { return select(exp(x), x, isNaN(x)); }
fn logarithm(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let infinite = bitcast<f32>(bits | 0xff800000u); // below 0, for a zero; WGSL cannot write it, and log need not give it
  return select(select(log(x), x, isNaN(x)), infinite, (bits & 0x7fffffffu) == 0u);
}`

/** Joins two numbers, as WGSL; the extremes keep what is not a number. */
export const joins = {
  sum: 'fn join(a: f32, b: f32) -> f32 { return a + b; }',
  max: `${keepNaN}
fn join(a: f32, b: f32) -> f32 { return select(select(b, a, a > b || isNaN(a)), b, isNaN(b)); }`,
  min: `${keepNaN}
fn join(a: f32, b: f32) -> f32 { return select(select(b, a, a < b || isNaN(a)), b, isNaN(b)); }`,
} as const

/**
 * WGSL function `name(value, thread)`: `value` joined over the invocations that share a row, given to all of them. The
 * invocations of a row are `stride` apart, 1 or (with rows side by side) threads / lanes. `combine` says how a and b join.
 */
export function tree(name: string, lanes: number, combine = 'a + b', stride = 1): string {
  const halves: number[] = []
  for (let half = lanes / 2; half >= 1; half /= 2) halves.push(half)
  const [lane, first] =
    stride === 1
      ? [`thread % ${lanes}u`, `thread - thread % ${lanes}u`]
      : [`thread / ${stride}u`, `thread % ${stride}u`]
  const level = (half: number) => `
  workgroupBarrier();
  if (lane < ${half}u) {
    let a = ${name}Slots[thread];
    let b = ${name}Slots[thread + ${half * stride}u];
    ${name}Slots[thread] = ${combine};
  }`
  if (lanes === 1) return `fn ${name}(value: f32, thread: u32) -> f32 { return value; }`
  return `var<workgroup> ${name}Slots: array<f32, ${threads}>;
fn ${name}(value: f32, thread: u32) -> f32 {
  let lane = ${lane};
  ${name}Slots[thread] = value;${halves.map(level).join('')}
  workgroupBarrier();
  let all = ${name}Slots[${first}];
  workgroupBarrier();
  return all;
}`
}
