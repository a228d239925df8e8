/** WebGPU's flags: their values are part of its specification, and their names are missing from TypeScript's library. */

export const usage = {
  mapRead: 0x1,
  copySource: 0x4,
  copyTarget: 0x8,
  uniform: 0x40,
  storage: 0x80,
  queryResolve: 0x200,
} as const

export const mapRead = 0x1
export const computeStage = 0x4
