/** Columns of a run's logs in words, for pages that people read. Runs anywhere. */

const words: Readonly<Record<string, string>> = {
  loss: 'training loss',
  heldOut: 'held-out loss',
  full: 'loss on whole pictures',
  masked: 'loss on masked pictures',
  mse: 'squared error of the predicted noise',
  maskedMse: 'squared error of the predicted noise, masked pictures',
  vb: 'variational bound, for the variances',
  maskedVb: 'variational bound, masked pictures',
  dsm: 'denoising score matching',
  ratio: 'share of tokens removed',
  error: 'reconstruction error',
  kl: 'KL divergence of the latents from N(0, 1)',
  lr: 'learning rate',
  gradNorm: 'norm of the gradient',
  clip: 'factor of clipped gradients',
  skipped: 'steps skipped in a row',
  seconds: 'seconds a step',
  waited: 'seconds a step waited for data',
}

/** What a column holds; its name where that is not known. */
export function inWords(column: string): string {
  return words[column] ?? column
}
