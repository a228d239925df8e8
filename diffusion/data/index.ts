/** Sets of pictures and the batches drawn from them. Needs Node. Read dataset.ts first. */

export { type Batch, Batches, type BatchOptions } from './batches.ts'
export { type ImageDataset, planesOf, toByte, toModelRange } from './dataset.ts'
export { openEmoji } from './emoji.ts'
export { openFolder, readPicture } from './folder.ts'
export { NpzFile, type NpzSource, readNpz, writeNpz } from './npz.ts'
export { openDataset } from './open.ts'
