/**
 * Threads: one job at a time, divided into chunks that all threads take, the main thread included.
 * A kernel is an exported function (args, chunk). The chunks of a job depend on shapes only, never on the number of
 * threads, so any number of threads gives the same bytes. All state is in shared memory, below the first 2 KiB:
 * a ticket (generation in the high half, chunks left in the low half), chunks done, sleepers, and the job itself.
 * A worker copies the job, then claims a chunk by compare-and-swap of the whole ticket: if the swap succeeds, the
 * generation has not changed since the job was read. The main thread never sleeps: it takes chunks, then spins until
 * the chunks of other threads are done. ../runtime.ts is the host's side.
 */

const TICKET: usize = 64
const GENERATION: usize = 68
const DONE: usize = 128
const SLEEPERS: usize = 192
const WORKERS: usize = 256
const STOP: usize = 260
const KERNEL: usize = 320
/** Address at which the host writes the arguments of the next job, up to the static data at 2 KiB. */
export const ARGS: usize = 512

/** Polls before a worker goes to sleep: some 50 µs, longer than the host takes from one kernel to the next. */
const SPINS: i32 = 30000

/** 0 is the main thread. Kernels use it to find scratch memory of their own. */
export let thread: i32 = 0

/** Runs `chunks` chunks of the kernel at this place in the function table, and returns when all are done. */
export function launch(kernel: u32, chunks: i32): void {
  if (chunks == 1 || atomic.load<i32>(WORKERS) == 0) {
    for (let chunk = 0; chunk < chunks; ++chunk) call_indirect<void>(kernel, ARGS, chunk)
    return
  }
  store<u32>(KERNEL, kernel)
  atomic.store<i32>(DONE, 0)
  const generation = atomic.load<u64>(TICKET) >> 32
  atomic.store<u64>(TICKET, ((generation + 1) << 32) | <u64>chunks)
  if (atomic.load<i32>(SLEEPERS) != 0) atomic.notify(GENERATION, -1)
  while (takeChunk()) {}
  while (atomic.load<i32>(DONE) != chunks) {}
}

/** Claims and runs one chunk; false when none is left. */
function takeChunk(): bool {
  const ticket = atomic.load<u64>(TICKET)
  const left = <i32>ticket
  if (left == 0) return false
  const kernel = load<u32>(KERNEL)
  if (atomic.cmpxchg<u64>(TICKET, ticket, ticket - 1) == ticket) {
    call_indirect<void>(kernel, ARGS, left - 1)
    atomic.add<i32>(DONE, 1)
  }
  return true
}

/** The life of a worker: take chunks, poll for a while, sleep until the next generation. */
export function work(index: i32): void {
  thread = index
  atomic.add<i32>(WORKERS, 1)
  let spins = 0
  while (atomic.load<i32>(STOP) == 0) {
    if (takeChunk()) {
      spins = 0
    } else if (++spins == SPINS) {
      spins = 0
      const ticket = atomic.load<u64>(TICKET)
      if (<i32>ticket != 0) continue
      atomic.add<i32>(SLEEPERS, 1)
      atomic.wait<i32>(GENERATION, <i32>(ticket >> 32), -1)
      atomic.sub<i32>(SLEEPERS, 1)
    }
  }
}

/** Sends the workers home. */
export function stop(): void {
  atomic.store<i32>(STOP, 1)
  atomic.store<u64>(TICKET, ((atomic.load<u64>(TICKET) >> 32) + 1) << 32)
  atomic.notify(GENERATION, -1)
}
