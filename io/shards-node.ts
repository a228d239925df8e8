/**
 * Weights in several files: an index, `model.safetensors.index.json` or `pytorch_model.bin.index.json`, says in which file each
 * tensor lies. Needs Node. An index comes from anywhere, so it may only name files of its own folder.
 */

import { dirname, join } from 'node:path'
import { firstBytes } from './open-node.ts'
import { quote } from './safetensors-elements.ts'
import { UserError } from './user-error.ts'

export interface ShardIndex {
  readonly path: string
  /** The names of its tensors by the path of their file. */
  readonly shards: ReadonlyMap<string, readonly string[]>
}

const largestIndex = 2 ** 26
const mostShards = 1000

/** Reads and checks an index. Throws UserError. */
export function readShardIndex(path: string): ShardIndex {
  const bytes = firstBytes(path, largestIndex + 1)
  if (bytes.length > largestIndex)
    throw new UserError(`${path}: expected an index of at most ${largestIndex} bytes, got more`)
  let weightMap: unknown
  try {
    weightMap = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)).weight_map
  } catch {
    throw new UserError(`${path}: expected an index of shards as JSON, got another text`)
  }
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap))
    throw new UserError(`${path}: expected an index of shards with weight_map, got other JSON`)
  const shards = new Map<string, string[]>()
  for (const [name, file] of Object.entries(weightMap)) {
    // A plain name leads nowhere else. Links are followed: caches of downloads are made of them.
    if (typeof file !== 'string' || !/^[^/\\:\0]{1,255}$/.test(file) || /^\.{1,2}$/.test(file))
      throw new UserError(
        `${path}: ${quote(name)}: expected the name of a file beside the index, got ${quote(String(file))}`,
      )
    const shard = join(dirname(path), file)
    const tensors = shards.get(shard) ?? []
    tensors.push(name)
    shards.set(shard, tensors)
    if (shards.size > mostShards) throw new UserError(`${path}: expected at most ${mostShards} shards, got more`)
  }
  return { path, shards }
}
