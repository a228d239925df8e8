/** Worlds: of one process without a launcher, of ranks under one. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { tensor } from '../../core/index.ts'
import { abiOf, libraryNames } from '../../distributed/abi.ts'
import { alone, init, launched, ranksThatFit, threadsPerRank } from '../../distributed/index.ts'
import { inFolder } from '../programs/example.ts'
import { isOpenMpi, runJob, testUnderMpi } from './job.ts'
import { valuesOf } from './values.ts'

test('without a launcher there is one rank, and no call changes anything', async () => {
  const world = await init()
  assert.is(world, alone)
  const x = tensor([1, 2])
  world.allSum([x])
  world.broadcast([x])
  assert.equal([...x.dataSync()], [1, 2])
  assert.equal([world.rank, world.size, world.first, world.about], [0, 1, true, null])
  assert.equal([world.any(false), world.any(true), world.agreed('a')], [false, true, 'a'])
  assert.equal(world.gather(Float32Array.of(3)), [Float32Array.of(3)])
  await world.barrier()
  assert.is(await world.onFirst(async () => 4), 4)
  world.end()
  x.dispose()
})

test('without a launcher neither koffi nor an MPI library is loaded', () => {
  const index = new URL('../../distributed/index.ts', import.meta.url).href
  const program = `const { init } = await import('${index}'); await init()
    const { existsSync, readFileSync } = await import('node:fs')
    const maps = existsSync('/proc/self/maps') ? readFileSync('/proc/self/maps', 'utf8') : ''
    console.log(/koffi|libmpi/.test(maps), maps.length > 0 || process.platform !== 'linux')`
  const words = [...process.execArgv, '--input-type=module', '--eval', program]
  const { stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' })
  assert.is(stdout, 'false true\n', stderr)
})

test('launchers say in the environment which rank a process is', () => {
  const openMpi = { OMPI_COMM_WORLD_RANK: '3', OMPI_COMM_WORLD_SIZE: '8', OMPI_COMM_WORLD_LOCAL_SIZE: '4' }
  assert.equal(launched(openMpi), { rank: 3, size: 8, localSize: 4 })
  assert.equal(launched({ PMI_RANK: '1', PMI_SIZE: '2' }), { rank: 1, size: 2, localSize: 2 })
  assert.equal(launched({ PMI_RANK: '1', PMI_SIZE: '4', MPI_LOCALNRANKS: '2' }), { rank: 1, size: 4, localSize: 2 })
  const slurm = { SLURM_PROCID: '5', SLURM_STEP_NUM_TASKS: '11', SLURM_STEP_TASKS_PER_NODE: '4(x2),3' }
  assert.equal(launched({ ...slurm, PMIX_RANK: '5' }), { rank: 5, size: 11, localSize: 4 })
  assert.equal(launched({ ...slurm, PMI_RANK: '5', PMI_SIZE: '11' }), { rank: 5, size: 11, localSize: 4 })
  // A step of srun without an MPI plug-in is a job, too; a batch script is none.
  assert.equal(launched(slurm), { rank: 5, size: 11, localSize: 4 })
  assert.is(launched({ SLURM_PROCID: '0', SLURM_STEP_NUM_TASKS: '1' }), null)
  assert.is(launched({}), null)
})

test('ranks share the cores of their machine', () => {
  const env = (ranks: number) => ({
    OMPI_COMM_WORLD_RANK: '0',
    OMPI_COMM_WORLD_SIZE: String(ranks),
    OMPI_COMM_WORLD_LOCAL_SIZE: String(ranks),
  })
  assert.is(threadsPerRank(env(4096)), 1)
  assert.ok(threadsPerRank(env(1))! >= 1)
  assert.is(threadsPerRank({ ...env(2), DEMASK_THREADS: '3' }), undefined)
  assert.is(threadsPerRank({}), undefined)
})

test('numbers of ranks that fit give every rank a power of two of parts', () => {
  assert.equal(ranksThatFit(1), [1])
  assert.equal(ranksThatFit(4), [1, 2, 4])
  assert.equal(ranksThatFit(6), [1, 3, 6])
  assert.equal(ranksThatFit(5), [1, 5])
  assert.equal(ranksThatFit(24), [1, 3, 6, 12, 24])
})

test('handles are symbols of Open MPI, integers of MPICH, and the constants of the MPI 5 interface', () => {
  const symbols: Record<string, bigint> = {
    ompi_mpi_comm_world: 1n,
    ompi_mpi_float: 2n,
    ompi_mpi_byte: 3n,
    ompi_mpi_op_max: 4n,
  }
  const find = (name: string) => symbols[name] ?? null
  assert.equal(abiOf('libmpi.so.40', find), { handle: 'void *', world: 1n, float: 2n, byte: 3n, max: 4n, ignore: 0n })
  assert.is(abiOf('libmpi.so.12', () => null).world, 0x44000000)
  assert.is(abiOf('/opt/lib/libmpi_abi.so.0', () => null).float, 0x210n)
  assert.is(libraryNames('linux', true)[0], 'libmpi.so.40')
  assert.is(libraryNames('linux', false)[0], 'libmpi.so.12')
  assert.is(libraryNames('darwin', true)[0], 'libmpi.dylib')
})

for (const size of [2, 3])
  testUnderMpi(`collectives of ${size} ranks`, () =>
    inFolder(async folder => {
      const program = fileURLToPath(new URL('./collectives.ts', import.meta.url))
      const { code, stderr } = await runJob(size, [program, folder])
      assert.is(code, 0, stderr)
      const ranks = Array.from({ length: size }, (_, r) => JSON.parse(readFileSync(join(folder, `${r}.json`), 'utf8')))
      const lengths = [3, 1, 0, 3 << 20, 77]
      const sums = lengths.map((length, i) => {
        const [a, b, c = null] = Array.from({ length: size }, (_, r) => valuesOf(r, i, length))
        const sum = a.map((x, k) => x + b[k])
        const whole = c === null ? sum : sum.map((x, k) => x + c[k])
        return Buffer.from(whole.buffer).toString('base64')
      })
      for (const [r, seen] of ranks.entries()) {
        assert.equal([seen.rank, seen.size, seen.first], [r, size, r === 0])
        assert.match(seen.about, new RegExp(`^${size} ranks over ${isOpenMpi ? 'Open MPI v' : 'MPICH '}[\\d.]+`))
        for (const [i, sum] of sums.entries()) assert.ok(seen.sums[i] === sum, `rank ${r}: sum of tensor ${i}`)
        assert.equal([seen.left, seen.bumped, seen.again], [0, true, true])
        assert.equal(seen.broadcast, [[size - 1, 5], [9 + size]])
        assert.equal(seen.any, [false, true, true])
        assert.equal(seen.agreed, [{ rank: 0, text: 'ä' }, [size - 1], null])
        assert.equal(
          seen.gathered,
          Array.from({ length: size }, (_, k) => new Array(k).fill(k)),
        )
        assert.is(seen.result, r === 0 ? 'done' : undefined)
        assert.ok(seen.waited.until >= ranks[0].waited.worked, `rank ${r} did not wait for rank 0`)
        assert.ok(seen.waited.busy < 0.5, `rank ${r} used ${seen.waited.busy} s of a core`)
        for (const message of seen.wrong)
          assert.is(message, 'allSum: expected f32 on the backend wasm, got i32 on wasm')
      }
    }),
  )

testUnderMpi('an MPI library that is none is named in one line', async () => {
  const program = fileURLToPath(new URL('./collectives.ts', import.meta.url))
  const { code, stderr } = await runJob(1, [program, '/nowhere'], { env: { DEMASK_MPI: '/etc/hostname' } })
  assert.is.not(code, 0)
  assert.match(stderr, /DEMASK_MPI: expected an MPI library, got \/etc\/hostname: /)
})

testUnderMpi('a library of another MPI than the launcher is an error, not several runs of one', async () => {
  const program = fileURLToPath(new URL('./collectives.ts', import.meta.url))
  // The launcher says 3, the library sees one process: what a launcher of another MPI looks like.
  const env = { OMPI_COMM_WORLD_SIZE: '3', OMPI_COMM_WORLD_RANK: '0' }
  const { code, stderr } = await runJob(0, [program, '/nowhere'], { env })
  assert.is.not(code, 0)
  assert.match(
    stderr,
    /distributed: expected 3 ranks, as the launcher started, got 1 by \S+ \(.*\)\. Set DEMASK_MPI to the launcher's own/,
  )
})

test.run()
