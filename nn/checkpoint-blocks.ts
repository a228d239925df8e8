/** Activation checkpointing of a model's blocks: less memory for a second forward pass. */

import { check } from '../core/arguments.ts'
import { checkpoint, Tensor } from '../core/index.ts'
import { aModule, type Module, ModuleList, Sequential } from './module.ts'

/** A module whose forward takes tensors, or null in place of one, and gives a tensor. */
type Block = Module & { forward(...inputs: readonly (Tensor | null)[]): Tensor }

/**
 * Makes the blocks of a model, the modules of its lists, keep only their inputs for backward, which runs each block a second
 * time (`checkpoint`). Results, of any shapes, stay what they were; gradients may add up in another order. Blocks inside a
 * block are not treated.
 */
export function checkpointBlocks(model: Module): void {
  check('checkpointBlocks', 'model', model, aModule)
  for (const [, child] of model.children()) {
    if (child instanceof Sequential) continue // layers, not blocks
    if (!(child instanceof ModuleList)) checkpointBlocks(child)
    else for (const block of child) checkpointBlock(block)
  }
}

function checkpointBlock(block: Block): void {
  const forward = block.forward.bind(block)
  block.forward = (...inputs) => {
    const tensors = inputs.filter(input => input instanceof Tensor)
    const places = inputs.map(input => (input instanceof Tensor ? tensors.indexOf(input) : null))
    return checkpoint(xs => forward(...places.map(place => (place === null ? null : xs[place]))), tensors)
  }
}
