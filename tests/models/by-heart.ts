/** Training on the same few pictures with the same draws at every step: nothing but learning lowers the loss. */

import { type Backend, backward, scope, stats, type Tensor } from '../../core/index.ts'

export interface Learned {
  /** Of each step, before its update. */
  readonly losses: readonly number[]
  /** The backend's bytes after each step. */
  readonly bytes: readonly number[]
}

/** `steps` times: the loss, its gradients, and `update`, which takes them to the weights and drops them. */
export async function learn(
  backend: Backend,
  steps: number,
  lossOf: () => Tensor,
  update: () => void,
): Promise<Learned> {
  const losses: number[] = []
  const bytes: number[] = []
  for (let step = 0; step < steps; step++) {
    const loss = scope(() => {
      const loss = lossOf()
      backward(loss)
      update()
      return loss
    })
    losses.push(await loss.item())
    loss.dispose()
    bytes.push(stats(backend).bytes)
  }
  return { losses, bytes }
}
