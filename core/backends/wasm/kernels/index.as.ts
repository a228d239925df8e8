/**
 * The entry of the wasm module: everything the host can launch. Every export but launch, work and stop is a kernel
 * (args, chunk).
 */

export { launch, stop, work } from './threads.as'
export { ceiling } from './ceiling.as'
export { gemm, gemmPackB } from './gemm.as'
