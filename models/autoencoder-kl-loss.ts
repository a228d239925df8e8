/**
 * Loss of the autoencoder [LDM §3.1]: the error of the reconstruction and a little of the latents' divergence from
 * N(0, 1). The error is L1, as LDM has it: squares would blur an edge rather than put it a pixel off. Leaves out LDM's
 * perceptual and adversarial losses, which need networks of their own.
 */

import { aFiniteNumber, check, instanceOf } from '../core/arguments.ts'
import { add, l1, mean, mul, type Rng, type Tensor } from '../core/index.ts'
import { checkSample } from './arguments.ts'
import { AutoencoderKL } from './autoencoder-kl.ts'

const anAutoencoder = instanceOf('an AutoencoderKL', AutoencoderKL)

/** Terms of the loss, scalars. */
export interface AutoencoderLoss {
  /** Mean of |x − x̂| over all values. */
  readonly error: Tensor
  /** Divergence of a picture's latents from N(0, 1) in nats, mean over pictures. */
  readonly kl: Tensor
  /** Σ |x − x̂| + λ KL of a picture, for each of its values: what is minimised. [LDM eq. 25] */
  readonly loss: Tensor
}

/** Loss of pictures x (N, C, H, W) at weight `klWeight`, λ, of the KL term. Samples latents from the posterior by `rng`. */
export function autoencoderLoss(model: AutoencoderKL, x: Tensor, klWeight: number, rng: Rng): AutoencoderLoss {
  check('autoencoderLoss', 'model', model, anAutoencoder)
  checkSample('autoencoderLoss', x, null, rng)
  check('autoencoderLoss', 'klWeight', klWeight, aFiniteNumber)
  const posterior = model.encode(x)
  const z = posterior.sample(rng.normal(posterior.mean.shape)) // (N, latents, h, w)
  const error = l1(model.decode(z), x)
  const kl = mean(posterior.kl())
  return { error, kl, loss: add(error, mul(kl, klWeight / (x.size / x.shape[0]))) }
}
