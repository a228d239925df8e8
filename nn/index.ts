/**
 * demask's layers, embedders and optimizers. Read them in the order module.ts, linear.ts, attention.ts, adaln.ts,
 * optim.ts.
 */

export * from './init.ts'
export * from './linear.ts'
export * from './module.ts'
