/**
 * The entry of the wasm module. The build exports every kernel of these files (../bindings.ts).
 */

export { launch, stop, work } from './threads.as'
import './ceiling.as'
import './few-rows.as'
import './gemm.as'
import './elementwise.as'
import './integers.as'
export { copyRows, transpose } from './movement.as'
export { firstBad, gather, scatterAdd, scatterAddInts } from './gather.as'
import './reduce.as'
import './norm.as'
import './softmax.as'
export { attention, attentionGrad } from './attention.as'
export { adamW, lerp, squares, sumSlots } from './optimizer.as'
export { fold, foldInts, unfold } from './unfold.as'
export { addProduct, addSquares, multiply, multiplyTransposed } from './doubles.as'
