/**
 * Rules of transfer: how label tables follow other classes, positions another size, and the last layer an output with or
 * without variances. Families list them in their records; transfer.ts applies them.
 */

import { sameShape } from '../core/shape.ts'
import { resizeGrid } from './resize-grid.ts'
import { gridSide } from './state-shapes.ts'
import type { Adapted, TransferContext, TransferRule, TransferRules } from './transfer.ts'

const labelTable = 'y_embedder.embedding_table.weight'

/** Tensors that the model or the weights may lack: new or left out then. Those of both must have one shape. */
const optional: TransferRule = (own, saved) => {
  if (own === undefined) return { values: null, fate: 'left out' }
  if (saved === undefined) return { values: null, fate: 'new' }
  return sameShape(own.shape, saved.shape) ? { values: null, fate: 'taken' } : null
}

/** Tensors that follow from the size: the model's own where the size differs. */
const recomputed: TransferRule = (own, saved) => {
  if (own === undefined || saved === undefined) return null
  if (sameShape(own.shape, saved.shape)) return { values: null, fate: 'taken' }
  return { values: null, fate: 'resized', detail: 'recomputed' }
}

/** Learned positions (1, S², D) of a square grid, by bicubic interpolation. */
const learnedPositions: TransferRule = (own, saved) => {
  if (own === undefined || saved === undefined || own.shape[2] !== saved.shape[2]) return null
  if (sameShape(own.shape, saved.shape)) return { values: null, fate: 'taken' }
  const [[, T], [, T0]] = [own.shape, saved.shape]
  if (!isSquare(T0)) return null
  return { values: resizeGrid(saved.data, gridSide(T0), gridSide(T)), fate: 'resized', detail: bicubic(T0, T) }
}

function isSquare(T: number): boolean {
  return T >= 1 && gridSide(T) ** 2 === T
}

/**
 * A relative position bias table, ((2S − 1)² + 3, h): its square of offsets by bicubic interpolation, as timm does. The
 * three rows of a class token stay.
 */
const relativeBias: TransferRule = (own, saved) => {
  if (own === undefined || saved === undefined || own.shape[1] !== saved.shape[1]) return null
  if (sameShape(own.shape, saved.shape)) return { values: null, fate: 'taken' }
  const h = own.shape[1]
  const [offsets, offsets0] = [own.shape[0] - 3, saved.shape[0] - 3]
  if (!isSquare(offsets0)) return null
  const values = new Float64Array((offsets + 3) * h)
  const all = Array.from(saved.data)
  values.set(resizeGrid(all.slice(0, offsets0 * h), gridSide(offsets0), gridSide(offsets)))
  values.set(all.slice(offsets0 * h), offsets * h)
  return { values, fate: 'resized', detail: bicubic(offsets0, offsets, 'offsets') }
}

function bicubic(from: number, to: number, what = 'positions'): string {
  return `${from} → ${to} ${what}, bicubic`
}

/** Which rows of a label table become which, and what to say of it. */
function labelFate({ classes, from }: TransferContext): Pick<Adapted, 'fate' | 'detail'> {
  const kept = classes.filter(row => row >= 0).length
  if (kept === classes.length && classes.length === from.numClasses && classes.every((row, i) => row === i))
    return { fate: 'taken' }
  if (classes.length === 0) return { fate: 'resized', detail: `${from.numClasses} classes left out` }
  if (kept === 0) return { fate: 'new', detail: `${classes.length} classes` }
  return { fate: 'resized', detail: `${kept} of ${classes.length} classes taken, the others new` }
}

/**
 * A label table with one row per class, (classes + 1, D), whose last row means 'no class' and moves to its place. The
 * table of a model without classes is left out.
 */
const labelRows: TransferRule = (own, saved, context) => {
  if (own === undefined || saved === undefined) return optional(own, saved, context)
  const D = own.shape[1]
  if (D !== saved.shape[1]) return null
  const { from, to, classes } = context
  const [nullRow, nullRow0] = [own.shape[0] > to.numClasses, saved.shape[0] > from.numClasses]
  const rows = Array.from({ length: own.shape[0] }, (_, i) => {
    if (i < to.numClasses) return classes[i]
    return nullRow0 ? from.numClasses : -1
  })
  const values = Array.from(own.data)
  const before = saved.data
  rows.forEach((row, i) => {
    if (row >= 0) for (let d = 0; d < D; d++) values[i * D + d] = before[row * D + d]
  })
  const { fate, detail } = labelFate(context)
  if (!nullRow) return { values, fate, detail }
  const said = nullRow0 ? "the row for 'no class' taken" : "the row for 'no class' new"
  return { values, fate, detail: fate === 'taken' && nullRow0 ? undefined : [detail, said].filter(Boolean).join('; ') }
}

/** The same for a table of one column per class, (D, classes), without one for 'no class'. */
const labelColumns: TransferRule = (own, saved, context) => {
  if (own === undefined || saved === undefined) return optional(own, saved, context)
  const [D, count] = own.shape
  const count0 = saved.shape[1]
  if (D !== saved.shape[0]) return null
  const values = Array.from(own.data)
  const before = saved.data
  context.classes.forEach((column, i) => {
    if (column >= 0) for (let d = 0; d < D; d++) values[d * count + i] = before[d * count0 + column]
  })
  return { values, ...labelFate(context) }
}

/**
 * The bias of the time embedding's last layer. In a model without classes it takes in the row for 'no class' of the
 * weights: what they generate without a label stays the same.
 */
const timeBias: TransferRule = (own, saved, { from, has, saved: tensor }) => {
  if (own === undefined || saved === undefined || !sameShape(own.shape, saved.shape)) return null
  const table = tensor(labelTable)
  if (has(labelTable) || table === undefined || table.shape[0] <= from.numClasses)
    return { values: null, fate: 'taken' }
  const D = own.shape[0]
  const rows = table.data
  const values = Float64Array.from(saved.data, (bias, d) => bias + rows[from.numClasses * D + d])
  return { values, fate: 'taken', detail: "with the row for 'no class' added, as the model has no classes" }
}

/**
 * Weight (P·P·Cout, D) or bias (P·P·Cout) of the last layer, whose channels are the fastest: ε, then the variances if there
 * are some. ε is kept; variances are new or left out.
 */
const outputChannels: TransferRule = (own, saved, { to: { patchSize: P, inChannels: C } }) => {
  if (own === undefined || saved === undefined || !sameShape(own.shape.slice(1), saved.shape.slice(1))) return null
  if (sameShape(own.shape, saved.shape)) return { values: null, fate: 'taken' }
  const [out, out0] = [own.shape[0] / (P * P), saved.shape[0] / (P * P)]
  if (![out, out0].every(channels => channels === C || channels === 2 * C)) return null
  const D = own.shape[1] ?? 1
  const values = Array.from(own.data)
  const before = saved.data
  for (let pixel = 0; pixel < P * P; pixel++)
    for (let i = 0; i < C * D; i++) values[pixel * out * D + i] = before[pixel * out0 * D + i]
  return { values, fate: 'resized', detail: `ε taken, variances ${out > out0 ? 'new' : 'left out'}` }
}

/**
 * Positions (1, E + S², D), in which label (if there are classes) and time come before the patches of a square grid. Those
 * of the patches are interpolated. The label's is new for weights without classes.
 */
const positionsWithTokens: TransferRule = (own, saved, { from, to }) => {
  if (own === undefined || saved === undefined || own.shape[2] !== saved.shape[2]) return null
  if (sameShape(own.shape, saved.shape) && from.numClasses > 0 === to.numClasses > 0)
    return { values: null, fate: 'taken' }
  const D = own.shape[2]
  const [E, E0] = [to, from].map(({ numClasses }) => (numClasses > 0 ? 2 : 1))
  const [T, T0] = [own.shape[1] - E, saved.shape[1] - E0]
  if (!isSquare(T0)) return null
  const values = Float64Array.from(own.data)
  const before = Array.from(saved.data)
  const shared = Math.min(E, E0)
  values.set(before.slice((E0 - shared) * D, E0 * D), (E - shared) * D)
  values.set(resizeGrid(before.slice(E0 * D), gridSide(T0), gridSide(T)), E * D)
  const label = E > E0 ? "the label's new" : E < E0 ? "the label's left out" : undefined
  const detail = [T === T0 ? undefined : bicubic(T0, T), label].filter(Boolean).join('; ')
  return { values, fate: 'resized', detail }
}

const timesteps: TransferRules = [
  [/^y_embedder\.embedding_table\.weight$/, labelRows],
  [/^t_embedder\.mlp\.2\.bias$/, timeBias],
  [/^final_layer\.linear\.(weight|bias)$/, outputChannels],
]

/** DiT's positions are sinusoids. */
export const ditRules: TransferRules = [...timesteps, [/^pos_embed$/, recomputed]]

/** MDT's and MDTv2's positions are learned, absolute and relative ones. */
export const mdtRules: TransferRules = [
  ...timesteps,
  [/^(decoder_)?pos_embed$/, learnedPositions],
  [/\.relative_position_bias_table$/, relativeBias],
  [/\.relative_position_index$/, recomputed],
]

/** Of MaskDiT, models without reconstruction have no mask token. */
export const maskDiTRules: TransferRules = [
  [/^model\.y_embedder\.embedding_table\.weight$/, labelColumns],
  [/^model\.(decoder_)?pos_embed$/, recomputed],
  [/^model\.mask_token$/, optional],
]

/** MaskDM's label and time are tokens with positions of their own. */
export const maskDMRules: TransferRules = [
  [/^encoder\.label_emb\.weight$/, labelRows],
  [/^encoder\.uncond_embed$/, optional],
  [/^encoder\.encoder_pos_embed$/, positionsWithTokens],
]
