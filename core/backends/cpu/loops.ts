/**
 * All kernels of the contract, required, fused and in place, as plain loops over some host's memory.
 */

import type { FusedKernels, Kernels, UpdateKernels } from '../../backend.ts'
import { attentionLoops } from './attention.ts'
import { convLoops } from './conv.ts'
import { elementwiseLoops } from './elementwise.ts'
import { gatherLoops } from './gather.ts'
import type { Host } from './host.ts'
import { matmulLoops } from './matmul.ts'
import { movementLoops } from './movement.ts'
import { normLoops } from './norm.ts'
import { optimizerLoops } from './optimizer.ts'
import { reduceLoops } from './reduce.ts'
import { scanLoops } from './scan.ts'
import { softmaxLoops } from './softmax.ts'
import { windowLoops } from './window.ts'

export type { Host } from './host.ts'

/** The loops on `host`'s memory. They keep no state. */
export function createLoops(host: Host): Kernels & FusedKernels & UpdateKernels {
  return {
    ...elementwiseLoops(host),
    ...reduceLoops(host),
    ...matmulLoops(host),
    ...convLoops(host),
    ...movementLoops(host),
    ...gatherLoops(host),
    ...scanLoops(host),
    ...windowLoops(host),
    ...softmaxLoops(host),
    ...normLoops(host),
    ...attentionLoops(host),
    ...optimizerLoops(host),
  }
}
