/**
 * Sums and maxima over the lanes of a row. A row belongs to `lanes` threads of a workgroup: each adds every lanes-th
 * term, and a tree through workgroup memory adds their results, so that no f32 sum is long.
 */

/** Threads of a workgroup that reduces. */
export const threads = 256

/**
 * Returns the lanes for a row of `length`: a power of four, so that few shaders serve all lengths; a lane has 2 to 8
 * terms.
 */
export function lanesFor(length: number): number {
  let lanes = 1
  while (lanes < threads && length > 8 * lanes) lanes *= 4
  return lanes
}

/**
 * WGSL functions that keep NaN and infinities, which WGSL's own max, exp and log may drop. They test bits, which no
 * compiler removes. `lowest` is the lowest finite number: −∞ − (−∞) would be NaN.
 */
export const keepNaN = `const lowest = -3.40282346e38f;
fn isNaN(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn exponential(x: f32) -> f32 { return select(exp(x), x, isNaN(x)); }
fn logarithm(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let infinite = bitcast<f32>(bits | 0xff800000u); // −∞ for a zero: WGSL has no literal for it, and log need not return it
  return select(select(log(x), x, isNaN(x)), infinite, (bits & 0x7fffffffu) == 0u);
}`

/** WGSL functions that combine two numbers; the extremes keep NaN. */
export const joins = {
  sum: 'fn join(a: f32, b: f32) -> f32 { return a + b; }',
  max: `${keepNaN}
fn join(a: f32, b: f32) -> f32 { return select(select(b, a, a > b || isNaN(a)), b, isNaN(b)); }`,
  min: `${keepNaN}
fn join(a: f32, b: f32) -> f32 { return select(select(b, a, a < b || isNaN(a)), b, isNaN(b)); }`,
} as const

/**
 * WGSL function `name(value, thread)`: returns `value` combined over the lanes of a row, to all of them. The lanes are
 * `stride` threads apart: 1, or threads / lanes for rows side by side. `combine` is WGSL of a and b, of `type`.
 */
export function tree(
  name: string,
  lanes: number,
  combine = 'a + b',
  stride = 1,
  type: 'f32' | 'vec2f' = 'f32',
): string {
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
  if (lanes === 1) return `fn ${name}(value: ${type}, thread: u32) -> ${type} { return value; }`
  return `var<workgroup> ${name}Slots: array<${type}, ${threads}>;
fn ${name}(value: ${type}, thread: u32) -> ${type} {
  let lane = ${lane};
  ${name}Slots[thread] = value;${halves.map(level).join('')}
  workgroupBarrier();
  let all = ${name}Slots[${first}];
  workgroupBarrier();
  return all;
}`
}
