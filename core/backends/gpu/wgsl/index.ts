/** Hand-written shaders, for what gpu.js cannot say: workgroup memory. Begin with program.ts. */

export type { Plan, Program, Step } from './program.ts'
export { Runner } from './runner.ts'
