/**
 * From MaskDM's masked pre-training to fine-tuning on other pictures [MaskDM §3.2, §4.3]: a checkpoint's weights go into a
 * model that may have another resolution, whose positions are interpolated, and other classes, whose label tokens begin
 * anew. The official code loads what fits by name and has no interpolation. Read maskdm.ts first.
 */

import { concat, matmul, noGrad, reshape, scope, slice, Tensor, tensor } from '../core/index.ts'
import type { HostState, StateSource } from '../nn/index.ts'
import { gridOf } from './dit.ts'
import { extraTokens, type MaskedUViT } from './maskdm.ts'

const positionsName = 'encoder.encoder_pos_embed'

/**
 * The network's part of a checkpoint. The official ones are of the diffusion around it: names begin with `model.`, those of
 * the moving average with `ema_model.model.`, and tables of the schedule lie beside them. Throws RangeError where there is
 * no such network.
 */
export function networkState(checkpoint: StateSource): StateSource {
  const prefix = ['', 'model.', 'ema_model.model.'].find(prefix => checkpoint.has(prefix + positionsName))
  if (prefix === undefined)
    throw new RangeError(
      `MaskDM: expected a checkpoint with '${positionsName}', got one of ${checkpoint.size} other names`,
    )
  const named = [...checkpoint].filter(([name]) => name.startsWith(prefix))
  return new Map(named.map(([name, value]) => [name.slice(prefix.length), value]))
}

/**
 * Puts a checkpoint's weights into `model`. Patch positions of another square grid are interpolated. Labels' rows stay
 * those of `model` where the checkpoint has none, or other classes; where `model` has no classes they are left out. Throws
 * ShapeError where anything else differs.
 */
export function loadPretrained(model: MaskedUViT, checkpoint: StateSource): void {
  noGrad(() => scope(() => model.loadStateDict(stateFor(model, networkState(checkpoint)))))
}

function stateFor(model: MaskedUViT, from: StateSource): StateSource {
  const own = model.stateDict()
  const state = new Map(from)
  const table = 'encoder.label_emb.weight'
  const labelled = state.has(table)
  const positions = placedLike(own.get(positionsName)!, state.get(positionsName)!)
  const [side] = gridOf(model.options)
  const [extra, patches] = resizePositions(positions, labelled ? 2 : 1, side)
  const time = slice(extra, 1, labelled ? 1 : 0) // (1, 1, D)
  if (extraTokens(model.options) === 1) {
    for (const name of [table, 'encoder.uncond_embed']) state.delete(name)
    return state.set(positionsName, concat([time, patches], 1)) // (1, 1 + T, D)
  }
  const sameClasses = labelled && state.get(table)!.shape[0] === model.options.numClasses
  if (!sameClasses) state.set(table, own.get(table)!)
  if (!labelled) state.set('encoder.uncond_embed', own.get('encoder.uncond_embed')!)
  const label = slice(labelled ? extra : own.get(positionsName)!, 1, 0, 1) // (1, 1, D)
  return state.set(positionsName, concat([label, time, patches], 1)) // (1, 2 + T, D)
}

/** The value as a tensor in the dtype and on the backend of `like`. */
function placedLike({ dtype, backend }: Tensor, value: Tensor | HostState): Tensor {
  const elements = value instanceof Tensor ? value.dataSync() : value.data
  return tensor(elements, { shape: value.shape, dtype, backend })
}

/**
 * Learned positions (1, E + S², D) of E extra tokens and a square grid → those of the extra tokens, (1, E, D), and of a grid
 * of side·side, (1, side², D), by bicubic interpolation. Throws RangeError where the grid is no square.
 */
export function resizePositions(positions: Tensor, E: number, side: number): [extra: Tensor, patches: Tensor] {
  const [, rows, D] = positions.shape
  const S = Math.sqrt(rows - E)
  if (!Number.isInteger(S) || S < 1)
    throw new RangeError(
      `resizePositions: expected positions of a square grid, got ${rows - E} beside ${E} extra tokens`,
    )
  const extra = slice(positions, 1, 0, E)
  const patches = slice(positions, 1, E) // (1, S², D)
  if (S === side) return [extra, patches]
  const { dtype, backend } = positions
  const weights = tensor(bicubicWeights(S, side), { shape: [side, S], dtype, backend })
  const byRow = reshape(matmul(weights, reshape(patches, [S, S * D])), [side, S, D]) // (side, S, D)
  return [extra, reshape(matmul(weights, byRow), [1, side * side, D])] // (side, side, D) → (1, side², D)
}

/**
 * Weights of S samples on a line in each of `side` samples on the same line, (side, S): cubic convolution
 * [Keys] with a = −3/4, as in PyTorch, pixel centres aligned, the border repeated.
 */
function bicubicWeights(S: number, side: number): Float64Array {
  const a = -0.75
  const kernel = (distance: number) => {
    const x = Math.abs(distance)
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0
  }
  const weights = new Float64Array(side * S)
  for (let i = 0; i < side; i++) {
    const at = ((i + 0.5) * S) / side - 0.5
    for (let j = Math.floor(at) - 1; j <= Math.floor(at) + 2; j++)
      weights[i * S + Math.min(Math.max(j, 0), S - 1)] += kernel(at - j)
  }
  return weights
}
