/**
 * Where a row of a folded shape begins. The host folds shapes (launch/fold.ts) into rows, rows per outer index, and
 * outer axes; only the outer index is taken apart by division, once for many rows.
 */

/**
 * Bytes to operand `which` at the flat outer index. table: per axis its extent and one stride in bytes per operand.
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
