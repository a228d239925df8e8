/**
 * The entry of the wasm module: everything the host can launch. Every export but launch, work and stop is a kernel
 * (args, chunk).
 */

export { launch, stop, work } from './threads.as'
export { ceiling } from './ceiling.as'
export * from './elementwise.as'
export { copyRows, transpose } from './movement.as'
export { firstBad, gather, scatterAdd, scatterAddInts } from './gather.as'
export { gemm, gemmPack } from './gemm.as'
export { fewRows, fewRowsAlong } from './few-rows.as'
export { maxColumns, maxInts, maxRows, minColumns, minInts, minRows, sumColumns, sumInts, sumRows } from './reduce.as'
export { gatedResidual, gatedResidualGrad, layerNorm, layerNormGrad } from './norm.as'
export { logSoftmax, logSoftmaxGrad, softmax, softmaxGrad } from './softmax.as'
export { attention, attentionGrad } from './attention.as'
export { adamW, adan, assign, lerp, sgd, squares, sumSlots } from './optimizer.as'
export { fold, foldInts, unfold } from './unfold.as'
export { addProduct, addSquares, multiply, multiplyTransposed } from './doubles.as'
