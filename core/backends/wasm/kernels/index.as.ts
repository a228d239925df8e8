/**
 * The entry of the wasm module. The build exports every kernel of these files (../bindings.ts).
 */

export { ARGS, launch, stop, work } from './threads.as'
import './ceiling.as'
import './few-rows.as'
import './gemm.as'
import './conv.as'
import './conv-pack.as'
import './conv-few.as'
import './elementwise.as'
import './integers.as'
import './gather.as'
import './movement.as'
import './reduce.as'
import './scan.as'
import './norm.as'
import './softmax.as'
import './attention.as'
import './optimizer.as'
import './doubles.as'
import './unfold.as'
