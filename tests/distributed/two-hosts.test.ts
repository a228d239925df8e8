/**
 * Two network namespaces as two hosts, joined by a virtual cable: ranks that reach each other by TCP alone leave the bytes of one
 * process. Needs root, iproute2 and Open MPI; skipped elsewhere.
 */

import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decided } from '../crash/life.ts'
import { inFolder } from '../programs/example.ts'
import { commandOf, demask, isOpenMpi, jobEnvironment, mpirun, runJob, testUnderMpi } from './job.ts'

const [left, right] = ['left', 'right'].map(side => `demask-${process.pid}-${side}`)
const addresses = ['10.98.76.1', '10.98.76.2'] as const

function shell(line: string): boolean {
  return spawnSync('sh', ['-c', line]).status === 0
}

/** Makes the namespaces and the cable. False where the system does not allow it. */
function connect(): boolean {
  return [
    `ip netns add ${left}`,
    `ip netns add ${right}`,
    `ip link add dm-left netns ${left} type veth peer name dm-right netns ${right}`,
    `ip -n ${left} addr add ${addresses[0]}/24 dev dm-left`,
    `ip -n ${right} addr add ${addresses[1]}/24 dev dm-right`,
    ...[left, right].map(name => `ip -n ${name} link set lo up`),
    `ip -n ${left} link set dm-left up`,
    `ip -n ${right} link set dm-right up`,
  ].every(shell)
}

const disconnect = () => {
  for (const name of [left, right]) shell(`ip netns del ${name}`)
}

const possible = isOpenMpi && process.getuid?.() === 0 && connect()
if (isOpenMpi && !possible) console.log('SKIPPED two hosts: no network namespaces here')
process.on('exit', disconnect)

const testTwoHosts = possible ? testUnderMpi : test.skip

testTwoHosts('2 ranks on two hosts, over TCP', () =>
  inFolder(async folder => {
    // Open MPI starts its daemon on the other host through this instead of ssh.
    const agent = join(folder, 'agent.sh')
    writeFileSync(
      agent,
      `#!/bin/sh\nshift\ntouch ${folder}/other-host\nexec ip netns exec ${right} unshare --uts sh -c "hostname right; exec sh -c '$*'"\n`,
    )
    chmodSync(agent, 0o755)
    const run = [demask, 'train', 'mdt', '--preset', 'tiny', '--size', '8', '--batch', '2', '--seed', '4']
    const settings = ['--parts', '2', '--steps', '3', '--threads', '1']
    const [one, two] = ['one', 'two'].map(name => join(folder, name))
    assert.is((await runJob(0, [...run, ...settings, '--out', one])).code, 0)
    const flags = ['--mca', 'plm_rsh_agent', agent, '--mca', 'btl', 'tcp,self', '--mca', 'pml', 'ob1']
    const network = ['btl_tcp_if_include', 'oob_tcp_if_include'].flatMap(name => ['--mca', name, '10.98.76.0/24'])
    const command = [mpirun, ...flags, ...network, '--host', addresses.map(address => `${address}:1`).join(), '-n', '2']
    const node = commandOf([...run, ...settings, '--out', two])
    const words = [
      'netns',
      'exec',
      left,
      'unshare',
      '--uts',
      'sh',
      '-c',
      'hostname left; exec "$@"',
      'sh',
      ...command,
      ...node,
    ]
    const { status, stdout, stderr } = spawnSync('ip', words, {
      encoding: 'utf8',
      cwd: join(import.meta.dirname, '../..'),
      env: { ...process.env, ...jobEnvironment },
      timeout: 300_000,
    })
    assert.is(status, 0, stderr)
    assert.match(stdout, /2 ranks over Open MPI/)
    assert.ok(existsSync(join(folder, 'other-host')))
    assert.equal(decided(two, 3), decided(one, 3))
  }),
)

test.run()
