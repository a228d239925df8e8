/** Formats that are read and written anywhere: safetensors in memory, and the error that a person sees as one line. */

export {
  decodeSafetensors,
  encodeSafetensors,
  encodeSafetensorsHeader,
  type HostTensor,
  parseSafetensorsHeader,
  type SafetensorsDType,
  type SafetensorsEntry,
  SafetensorsError,
  type SafetensorsHeader,
  safetensorsBytes,
  safetensorsDType,
  safetensorsHeaderLength,
} from './safetensors.ts'
export { errorLine, reason, UserError } from './user-error.ts'
