/**
 * Offsets of rows. The host collapses shapes (launch/rows.ts) into rows, rows per outer index, and outer axes. Only the
 * outer index is divided into indices of axes, once for many rows.
 */

/**
 * Returns the bytes to operand `which` at a flat outer index. The table has for each axis its extent and one stride in
 * bytes per operand.
 */
export function offsetAt(table: usize, rank: i32, operands: i32, which: i32, index: i32): usize {
  let offset: usize = 0
  const entry = <usize>(operands + 1) << 2
  for (let axis = rank - 1; axis >= 0; --axis) {
    const at = table + <usize>axis * entry
    const extent = load<i32>(at)
    const rest = index / extent
    offset += <usize>(index - rest * extent) * <usize>load<u32>(at + 4 + (<usize>which << 2))
    index = rest
  }
  return offset
}
