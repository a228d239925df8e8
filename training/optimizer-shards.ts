/**
 * Optimizer state shared out over ranks: each rank keeps the moments and the moving average of its share of the parameters,
 * moves these, and sends them to the others [ZeRO §5.1]. Gradients and weights stay whole on every rank, and every number is
 * computed as without, so the bytes of a run are the same.
 */

import { type Tensor, zeros } from '../core/index.ts'
import type { World } from '../distributed/world.ts'
import type { HostTensor } from '../io/safetensors.ts'
import type { AveragePair, Ema, Module, Optimizer } from '../nn/index.ts'

/** An optimizer and a moving average that keep one rank's share. */
export class OptimizerShards {
  readonly #world: World
  readonly #optimizer: Optimizer
  /** Names of the parameters that each rank moves. */
  readonly #names: readonly (readonly string[])[]
  /** Averages that each rank keeps. */
  readonly #averages: readonly (readonly AveragePair[])[]

  /** Drops from optimizer and average what other ranks keep. */
  constructor(world: World, { ema, optimizer }: { readonly ema: Ema<Module>; readonly optimizer: Optimizer }) {
    this.#world = world
    this.#optimizer = optimizer
    this.#names = shareOut(optimizer.parameters, world.size)
    const { pairs } = ema // an average of a frozen tensor, which no rank moves, is that tensor
    this.#averages = this.#names.map((_, rank) => {
      const own = new Set(this.#parametersOf(rank))
      return pairs.filter(({ source }) => own.has(source))
    })
    optimizer.keepOnly(this.#parametersOf(world.rank))
    // The averages of other ranks share the model's memory until they are gathered.
    for (const { target, source } of ema.keepOnly(this.#parametersOf(world.rank))) target.replaceWith(source)
  }

  #parametersOf(rank: number): Tensor[] {
    return this.#names[rank].map(name => this.#optimizer.parameters.get(name)!)
  }

  /** Sends to all ranks the parameters that each has moved. */
  sendParameters(): void {
    for (let rank = 0; rank < this.#world.size; rank++) this.#world.broadcast(this.#parametersOf(rank), rank)
  }

  /** Brings the averages of all ranks to rank 0, until `releaseAverages`. */
  gatherAverages(): void {
    for (const [rank, pairs] of this.#averages.entries())
      for (const { target } of rank === 0 ? [] : pairs)
        this.#fetch(target, rank, copy => {
          if (this.#world.first) target.replaceWith(copy)
        })
  }

  /** Frees the averages of other ranks on rank 0. */
  releaseAverages(): void {
    if (!this.#world.first) return
    for (const { target, source } of this.#averages.slice(1).flat()) target.replaceWith(source)
  }

  /**
   * Brings the optimizer's state of all ranks to rank 0: on the host, under the names and in the order of a state dict that
   * is not shared out. Other ranks return what they have seen.
   */
  gatherState(): ReadonlyMap<string, HostTensor> {
    const { rank: self, size } = this.#world
    const own = this.#optimizer.stateDict()
    const { parameters } = this.#optimizer
    const state = new Map<string, HostTensor>()
    for (const [key, tensor] of own)
      if (!parameters.has(parameterOf(key)))
        state.set(key, { dtype: 'F32', shape: tensor.shape, data: tensor.dataSync() })
    const keys = [...own].map(([key, { shape }]) => ({ key, shape }))
    const found = new Map<string, Map<string, HostTensor>>()
    for (let rank = 0; rank < size; rank++)
      for (const { key, shape } of this.#world.agreed(keys, rank)) {
        const name = parameterOf(key)
        if (!parameters.has(name)) continue
        const slots = found.get(name) ?? new Map<string, HostTensor>()
        found.set(name, slots)
        const source = rank === self ? own.get(key)! : { shape }
        this.#fetch(source, rank, copy => {
          if (self === 0) slots.set(key, { dtype: 'F32', shape, data: copy.dataSync() })
        })
      }
    for (const name of parameters.keys()) for (const [key, value] of found.get(name) ?? []) state.set(key, value)
    return state
  }

  /** Calls `use` with a copy of the tensor of a rank, which every rank must ask for; there with the tensor itself. */
  #fetch(tensor: Tensor | Pick<Tensor, 'shape'>, rank: number, use: (copy: Tensor) => void): void {
    if (this.#world.rank === rank) {
      this.#world.broadcast([tensor as Tensor], rank)
      use(tensor as Tensor)
      return
    }
    const copy = zeros(tensor.shape)
    this.#world.broadcast([copy], rank)
    use(copy)
    copy.dispose()
  }
}

/** The parameter of a key of the state dict: of `exp_avg.blocks.0.weight`, blocks.0.weight. */
function parameterOf(key: string): string {
  return key.slice(key.indexOf('.') + 1)
}

/** Shares out parameters by their size: the largest first, each to the rank that has the fewest elements so far. */
export function shareOut(parameters: ReadonlyMap<string, Tensor>, ranks: number): string[][] {
  const shares = Array.from({ length: ranks }, () => ({ names: [] as string[], elements: 0 }))
  const bySize = [...parameters].sort(([, a], [, b]) => b.size - a.size)
  for (const [name, { size }] of bySize) {
    const least = shares.reduce((best, share) => (share.elements < best.elements ? share : best))
    least.names.push(name)
    least.elements += size
  }
  return shares.map(({ names }) => names)
}
