/**
 * The mathematics of diffusion models: schedules, losses, samplers, guidance and masks. Runs anywhere. Read it in the order
 * betas.ts, gaussian.ts, vlb.ts, losses.ts, samplers.ts, guidance.ts, masking.ts, block-masks.ts, edm.ts.
 */

export * from './betas.ts'
export * from './block-masks.ts'
export * from './edm.ts'
export * from './edm-samplers.ts'
export * from './gaussian.ts'
export * from './guidance.ts'
export * from './inpainting.ts'
export * from './loop.ts'
export * from './losses.ts'
export * from './masking.ts'
export { meanPerSample, perSample, scaled, type Timesteps } from './per-sample.ts'
export * from './respace.ts'
export * from './samplers.ts'
export * from './timestep-denoiser.ts'
export * from './vlb.ts'
