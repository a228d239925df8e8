/**
 * Threads: one job at a time, divided into chunks that all threads take, the main thread included.
 * A kernel is an exported function (args, chunk). The chunks of a job depend on shapes only, never on the number of
 * threads, so any number of threads gives the same bytes. All state is in shared memory, below the first 2 KiB:
 * a ticket (generation in the high half, the range of chunks left in the low one), chunks done, sleepers, and the job.
 * A thread claims a chunk by compare-and-swap of the whole ticket. If the swap succeeds, the chunk is of the job that is
 * there, and the job stays until the chunk is done. Threads of even number take the first chunk left, the others the
 * last one: neighbouring chunks are mostly computed by one thread, which has in its cache what they share, and the same
 * rows in one kernel after another. The main thread never sleeps: it takes chunks, then spins until the chunks of other
 * threads are done. ../runtime.ts is the host's side.
 */

const TICKET: usize = 64
const GENERATION: usize = 68
const DONE: usize = 128
const SLEEPERS: usize = 192
const WORKERS: usize = 256
const STOP: usize = 260
const KERNEL: usize = 320
const CHUNKS: usize = 324
const TOGETHER: usize = 328
/** Bits of a ticket for the first chunk left, and as many for the one after the last. */
const BITS: u64 = 16
const MASK: u64 = (1 << BITS) - 1
/** No columns. */
const NONE: usize = usize.MAX_VALUE
/** Address at which the host writes the arguments of the next job, up to the static data at 2 KiB. */
export const ARGS: usize = 512

/** Polls before a worker goes to sleep: some 50 µs, longer than the host takes from one kernel to the next. */
const SPINS: i32 = 30000

/** 0 is the main thread. Kernels use it to find scratch memory of their own. */
export let thread: i32 = 0

/** The generation that this thread works on. */
let job: u32 = 0
/** The columns that this thread packed last in this job. */
let packedColumns: usize = NONE

/** True if the last columns that the thread packed in this job are these; else they count as packed from here on. */
export function packedAlready(columns: usize): bool {
  const already = packedColumns == columns
  packedColumns = columns
  return already
}

/** Runs `chunks` chunks of the kernel at this place in the function table, and returns when all are done. */
export function launch(kernel: u32, chunks: i32): void {
  if (chunks == 1 || atomic.load<i32>(WORKERS) == 0) {
    packedColumns = NONE
    for (let chunk = 0; chunk < chunks; ++chunk) call_indirect<void>(kernel, ARGS, chunk)
    return
  }
  const together = 1 + (chunks - 1) / <i32>MASK // 1, unless there are more chunks than a ticket can count
  const claims = 1 + (chunks - 1) / together
  store<u32>(KERNEL, kernel)
  store<i32>(CHUNKS, chunks)
  store<i32>(TOGETHER, together)
  atomic.store<i32>(DONE, 0)
  const generation = atomic.load<u64>(TICKET) >> 32
  atomic.store<u64>(TICKET, ((generation + 1) << 32) | (<u64>claims << BITS))
  if (atomic.load<i32>(SLEEPERS) != 0) atomic.notify(GENERATION, -1)
  while (takeChunk()) {}
  while (atomic.load<i32>(DONE) != claims) {}
}

/** Claims and runs one chunk; false when none is left. */
function takeChunk(): bool {
  const ticket = atomic.load<u64>(TICKET)
  const first = <i32>(ticket & MASK)
  const end = <i32>((ticket >> BITS) & MASK)
  if (first == end) return false
  const even = (thread & 1) == 0
  const rest = even ? ticket + 1 : ticket - (1 << BITS)
  if (atomic.cmpxchg<u64>(TICKET, ticket, rest) == ticket) {
    begin(<u32>(ticket >> 32))
    run(even ? first : end - 1)
    atomic.add<i32>(DONE, 1)
  }
  return true
}

/** Forgets what was packed for another job. */
function begin(generation: u32): void {
  if (generation != job) packedColumns = NONE
  job = generation
}

/** Runs a claimed chunk of the ticket, which may be several of the kernel. */
function run(claimed: i32): void {
  const together = load<i32>(TOGETHER)
  const end = min((claimed + 1) * together, load<i32>(CHUNKS))
  const kernel = load<u32>(KERNEL)
  for (let chunk = claimed * together; chunk < end; ++chunk) call_indirect<void>(kernel, ARGS, chunk)
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
      if ((ticket & MASK) != ((ticket >> BITS) & MASK)) continue
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
