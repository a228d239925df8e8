/** Sets of pictures and the batches drawn from them. Needs Node. Read dataset.ts first. */

export { type Batch, Batches, type BatchOptions, type BatchRange } from './batches.ts'
export { type ImageDataset, imagesOf, planesOf, type TrainingSet, toByte, toModelRange } from './dataset.ts'
export { openEmoji } from './emoji.ts'
export { openFolder, openFolderAtCommonSize, readPicture } from './folder.ts'
export { type ClassFrom, classFromHelp, classSources, dataHelp } from './help.ts'
export { type LatentDataset, openLatents, type Posterior } from './latents.ts'
export { type Encoder, type LatentIndex, type LatentSource, readIndex } from './latents-index.ts'
export { type EncodeOptions, type Moments, writeLatents } from './latents-write.ts'
export { isList } from './list-rows.ts'
export { npzPixels } from './npz-pixels.ts'
export { openDataset } from './open.ts'
export { leaveOut, type OpenOptions, readableFrom, Skipped, UnreadablePicture } from './unreadable.ts'
