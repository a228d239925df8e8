/** Hand-written shaders, for what gpu.js cannot say: workgroup memory. Begin with program.ts. */

export { writtenKernels } from './kernels.ts'
export { folded, type Plan, type Program, type Step } from './program.ts'
