/**
 * Kinds `mdt-v1` and `mdt-v2`: full and masked forward pass from given noise, the mask, side-interpolator and relative
 * position bias on the way, guidance with the power-cosine scale, and the loss of both passes with its gradient.
 */

import { add, gather, type Tensor } from '../../core/index.ts'
import { classifierFreeGuidance, powerCosineScale } from '../../diffusion/guidance.ts'
import { trainingLoss } from '../../diffusion/losses.ts'
import { keptTokens, type TokenMask, tokenMask } from '../../diffusion/masking.ts'
import {
  type MaskedDiffusionTransformer,
  MDT,
  type MDTBlock,
  type MDTOptions,
  MDTv2,
  randomMaskRatio,
} from '../../models/mdt.ts'
import { mdtLoss, type Passes } from '../../models/mdt-loss.ts'
import { dropLabels } from '../../nn/index.ts'
import type { Fixture, Run } from './fixture.ts'
import { once, type Results } from './kind.ts'
import {
  diffusionOf,
  labels,
  loaded,
  mdtOptions,
  meanOf,
  place,
  setCounts,
  setGradients,
  setTerms,
} from './transformer.ts'

/** The MDT of either version that a fixture describes, with its parameters. */
export function mdtOf(fixture: Fixture, run: Run, version: 1 | 2): MDT | MDTv2 {
  const options = mdtOptions(fixture.config, version === 1 ? 2 : 4)
  return loaded(version === 1 ? new MDT(options, place(run)) : new MDTv2(options, place(run)), fixture)
}

/** Results of either kind. */
export function computeMdt(fixture: Fixture, run: Run, version: 1 | 2): Results {
  const model = mdtOf(fixture, run, version)
  const results: Results = new Map()
  setCounts(results, model)
  setForward(results, fixture, run, model)
  setGuidance(results, fixture, run, model)
  setLoss(results, fixture, run, model)
  // Kept tokens at seven draws of the ratio for 16, 64 and 256 tokens; also in the f32 arithmetic of the official code.
  const kept = (count: (T: number, u: number) => number) => () => {
    const draws = [...fixture.host('in.ratio_u').data]
    return { data: [16, 64, 256].flatMap(T => draws.map(u => count(T, u))), shape: [3, draws.length] }
  }
  const least = model.options.maskRatio ?? 0
  const f = Math.fround
  results.set(
    'out.ratio_len_keep_f64',
    kept((T, u) => keptTokens(T, randomMaskRatio(least, u))),
  )
  results.set(
    'out.ratio_len_keep_f32',
    kept((T, u) => Math.trunc(f(T * f(1 - f(f(f(u) * f(0.2)) + f(least)))))),
  )
  return results
}

function firstBlock(model: MDT | MDTv2): MDTBlock {
  const encoder = model instanceof MDT ? model.blocks : model.en_inblocks
  return encoder.items[0] ?? model.sideblocks.items[0]
}

/** The mask of stored noise, at the version's ratio: the second one's from a stored draw. */
function maskOf(
  fixture: Fixture,
  run: Run,
  model: MaskedDiffusionTransformer,
  noise: { readonly data: ArrayLike<number>; readonly shape: readonly number[] },
  u: number | null,
): TokenMask {
  const least = model.options.maskRatio ?? 0
  const [N, T] = noise.shape
  const ratio = u === null ? least : randomMaskRatio(least, u)
  return tokenMask(noise.data, [N, T], ratio, { backend: run.backend })
}
