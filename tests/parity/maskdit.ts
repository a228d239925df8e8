/**
 * Shared by the kinds that run MaskDiT: the model that a fixture's configuration and parameters describe,
 * labels from one-hot rows, and a training step from stored draws. A setting that is not known here throws.
 */

import { mean } from '../../core/index.ts'
import { logNormalSigma } from '../../diffusion/edm.ts'
import { tokenMask } from '../../diffusion/masking.ts'
import type { HostTensor } from '../../io/safetensors.ts'
import { type MaskDiTOptions, officialDecoder, PreconditionedMaskDiT } from '../../models/maskdit.ts'
import { type MaskDiTInputs, maskDiTLoss } from '../../models/maskdit-loss.ts'
import { dropLabels } from '../../nn/index.ts'
import { type Fixture, isObject, type Json, type JsonObject, onDevice, type Run } from './fixture.ts'
import type { Trainee } from './trainee.ts'
import { loaded, place } from './transformer.ts'

/** The model with its preconditioning. Throws on a setting that it has not. */
export function maskDiTOf(fixture: Fixture, run: Run): PreconditionedMaskDiT {
  const { sigma_data = 0.5 } = fixture.config
  return loaded(new PreconditionedMaskDiT(maskDiTOptions(fixture.config), place(run), Number(sigma_data)), fixture)
}

/** True if a fixture's parameters are those of a MaskDiT with its preconditioning. */
export function isMaskDiT(fixture: Fixture): boolean {
  return fixture.names('param.model.').length > 0
}

/**
 * Trainee of kind `trajectory`: masked at the configured ratio up to `unmasked_from_step`, if the manifest has that.
 */
export function maskDiTTrainee(fixture: Fixture, run: Run): Trainee {
  const model = maskDiTOf(fixture, run)
  const { train } = fixture.manifest
  const masked = isObject(train) && typeof train.unmasked_from_step === 'number' ? train.unmasked_from_step : Infinity
  const termsAt = (step: number) => {
    const read = (name: string) => (fixture.has(`in.${name}`) ? fixture.hostRow(`in.${name}`, step) : null)
    const ratio = step < masked ? Number(fixture.config.mask_ratio ?? 0) : 0
    const draws = storedDraws(model, run, read, read('y')?.data ?? null, ratio)
    const { loss } = maskDiTLoss(model, fixture.row('in.images', step, run), draws)
    return { loss_per_sample: loss, loss: mean(loss) }
  }
  return { model, termsAt, another: () => maskDiTOf(fixture, run) }
}

/** A configuration in the words of the official constructors, whose defaults hold for what it leaves out. */
function maskDiTOptions(config: JsonObject): MaskDiTOptions {
  const {
    img_resolution,
    img_channels,
    num_classes = 0,
    net,
    kwargs,
    decoder,
    sigma_data,
    mask_ratio,
    ...rest
  } = config
  const { depth, hidden_size, patch_size, num_heads, mlp_ratio: netRatio = 4, ...netRest } = objectOf(net)
  const {
    use_decoder = false,
    mae_loss_coef = 0,
    class_dropout_prob = 0.1,
    mlp_ratio = netRatio,
    ...kwargsRest
  } = objectOf(kwargs)
  const {
    hidden = officialDecoder.hiddenSize,
    depth: blocks = officialDecoder.depth,
    ...decoderRest
  } = objectOf(decoder)
  const { heads = officialDecoder.numHeads, ...unknown } = decoderRest
  const strange = Object.keys({ ...rest, ...netRest, ...kwargsRest, ...unknown })
  if (strange.length > 0) throw new Error(`config: expected settings that are known here, got ${strange.join(', ')}`)
  const number = (value: Json | undefined) => Number(value ?? Number.NaN)
  return {
    inputSize: number(img_resolution),
    inChannels: number(img_channels),
    numClasses: number(num_classes ?? 0),
    depth: number(depth),
    hiddenSize: number(hidden_size),
    patchSize: number(patch_size),
    numHeads: number(num_heads),
    mlpRatio: number(mlp_ratio),
    classDropoutProb: number(class_dropout_prob),
    maeLossCoef: number(mae_loss_coef),
    decoder:
      use_decoder === true ? { hiddenSize: number(hidden), depth: number(blocks), numHeads: number(heads) } : null,
  }
}

function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {}
}

/** Labels of one-hot rows (N, classes); a row of zeros is label `classes`. Throws on other rows. */
export function labelsOf({ data, shape: [N, classes] }: HostTensor): Int32Array {
  return Int32Array.from({ length: N }, (_, n) => {
    const row = [...data.subarray(n * classes, (n + 1) * classes)]
    const label = row.indexOf(1)
    if (row.some((value, i) => value !== (i === label ? 1 : 0)))
      throw new Error(`labels: expected one-hot rows, got [${row.join(', ')}]`)
    return label < 0 ? classes : label
  })
}

/**
 * Random numbers of a training step, from stored values by name: `rnd_normal`, `noise`, `drop_u`, `mask_noise`; labels are
 * those before dropping. Without a ratio nothing is removed.
 */
export function storedDraws(
  net: PreconditionedMaskDiT,
  run: Run,
  read: (name: string) => HostTensor | null,
  labels: ArrayLike<number> | null,
  ratio: number,
): MaskDiTInputs {
  const { numClasses, classDropoutProb = 0.1 } = net.model.options
  const wanted = (name: string) => {
    const found = read(name)
    if (found === null) throw new Error(`expected '${name}' of a training step, which the fixture does not hold`)
    return found
  }
  const u = read('drop_u')?.data ?? null
  const maskOf = ({ data, shape: [N, T] }: HostTensor) => tokenMask(data, [N, T], ratio, { backend: run.backend })
  return {
    sigma: logNormalSigma(wanted('rnd_normal').data),
    noise: onDevice(wanted('noise'), run),
    labels: labels === null || u === null ? labels : dropLabels(labels, u, classDropoutProb, numClasses),
    mask: ratio > 0 ? maskOf(wanted('mask_noise')) : null,
  }
}
