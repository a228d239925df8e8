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
export { maxColumns, maxInts, maxRows, minColumns, minInts, minRows, sumColumns, sumInts, sumRows } from './reduce.as'
export { gatedResidual, gatedResidualGrad, layerNorm, layerNormGrad } from './norm.as'
export { logSoftmax, logSoftmaxGrad, softmax, softmaxGrad } from './softmax.as'
export { attention, attentionGrad } from './attention.as'
export { adamW, lerp, squares, sumSlots } from './optimizer.as'
export { fold, foldInts, unfold } from './unfold.as'
export { addProduct, addSquares, multiply, multiplyTransposed } from './doubles.as'
