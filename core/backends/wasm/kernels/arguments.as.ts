/**
 * Types of kernel arguments beside i32, f32 and usize (a number of bytes). All are 32-bit words here; the host
 * distinguishes them (../bindings.ts).
 */

/** First byte of an operand, a result or scratch memory. */
export type Address = usize

/** The same, or 0 for an operand that is absent; the host passes null. */
export type OptionalAddress = usize

/** 1 or 0; the host passes a boolean. */
export type Flag = i32

/** First word of a table that ends the argument block; the host passes an array. */
export type Table = i32

/** Returns the address of the table of an argument block, whose field is named `table`. */
@inline
export function tableOf<A>(args: A): usize {
  return changetype<usize>(args) + offsetof<A>('table')
}
