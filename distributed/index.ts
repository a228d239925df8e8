/**
 * Several processes as one: sums, broadcasts and agreement over MPI. Without a launcher there is one rank, and nothing is
 * loaded. Needs Node.
 */

export { type InitOptions, init } from './init.ts'
export { type Launch, launched, quietRanks, threadsPerRank } from './launcher.ts'
export { alone, ranksThatFit, type World } from './world.ts'
