/** Formats on disk: safetensors, PyTorch files, zip, npz; atomic writes, locks and checksums. Needs Node. */

export { writeAside } from './aside.ts'
export { sha256Of } from './checksum.ts'
export * from './index.ts'
export { lockFolder } from './lock.ts'
export { NpzFile, type NpzSource, readNpz, writeNpz } from './npz.ts'
export { PyTorchFile } from './pytorch-node.ts'
export { replaceFile } from './replace.ts'
export { type LazyData, readSafetensors, SafetensorsFile, storable, writeSafetensors } from './safetensors-node.ts'
export { type FileTensor, openWeights, type WeightsFile } from './weights-node.ts'
export { type ZipEntry, ZipError, ZipFile } from './zip-node.ts'
