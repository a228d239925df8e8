/** The gpu backend. See backend.ts. */

export { type GpuBackend, type GpuOptions, gpu } from './backend.ts'
export { deviceModes } from './device.ts'
export type { DeviceCounters, DeviceMode } from './program.ts'
