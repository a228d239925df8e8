/**
 * Weights that a run starts from, and parameters that it freezes. Needs Node. The weights come from a run, a checkpoint or a
 * published file; models/transfer.ts puts them into a model of other classes or another size.
 */

import { reason, UserError } from '../io/user-error.ts'
import type { Family, SettingsTable, Trainable } from '../models/family.ts'
import { describe, recognise, type TransformerOptions, transferTable, transferWeights } from '../models/index.ts'
import { freezeParameters, type Module } from '../nn/index.ts'
import { finiteWeights, openTrained } from './trained-run.ts'

/** Where weights to start from are. */
export interface WeightsSource {
  /** A run, a checkpoint, or a file that `openWeights` reads. */
  readonly path: string
  /** Averaged weights of a run or checkpoint, or the last ones. */
  readonly weights: 'ema' | 'model'
}

/**
 * Puts weights into a model of `family`. `options` are the model's, `classes` the names of its classes, and `flag`
 * named the weights. Returns lines that say what was taken, resized, new and left out. Rejects with UserError on weights that cannot be read or do not fit.
 */
export async function startFrom<Model extends Module, Options, Own extends SettingsTable>(
  family: Trainable<Model, Options, Own>,
  model: Model,
  { options, classes }: { readonly options: Options; readonly classes: readonly string[] },
  source: WeightsSource,
  flag: string,
): Promise<readonly string[]> {
  using file = await openTrained(source.path, source, flag)
  const { path, run, told } = file
  const target = options as TransformerOptions & { readonly decoder?: { readonly numHeads: number } | null }
  // A file by itself has the heads of the model that begins with it.
  const { heads = target.numHeads, decoderHeads = run === null ? target.decoder?.numHeads : undefined } = told
  const found = recognise(finiteWeights(file.state), path, { ...told, heads, decoderHeads })
  try {
    // Only families have rules of transfer.
    const record = family as unknown as Family
    const from = { ...found, classes: run?.classes }
    const report = await transferWeights(record, model, { options: target, classes }, from)
    return [`begins with ${path} (${describe(found)}):`, ...transferTable(report)]
  } catch (error) {
    const preset = found.family.name === family.name && found.preset !== null ? `. It is a ${found.preset}` : ''
    throw new UserError(`${flag}: ${path}: ${reason(error).replace(/^transferWeights: /, '')}${preset}`, {
      cause: error,
    })
  }
}

/** Freezes parameters. Returns a line about them. Throws UserError on a pattern without a match, and if none is left to train. */
export function freeze(model: Module, patterns: readonly string[]): string {
  const names = frozenBy(model, patterns)
  const { total, trainable } = model.countParameters()
  if (trainable === 0) throw new UserError('--freeze: expected parameters that are left to train, got none')
  const millions = (count: number) => `${(count / 1e6).toFixed(1)} M`
  return `frozen: ${names.length} tensors; ${millions(trainable)} of ${millions(total)} parameters are trained`
}

/** `freezeParameters`, whose errors are those of the flag. */
function frozenBy(model: Module, patterns: readonly string[]): string[] {
  try {
    return freezeParameters(model, patterns)
  } catch (error) {
    throw new UserError(`--freeze: ${reason(error).replace(/^freezeParameters: /, '')}`, { cause: error })
  }
}
