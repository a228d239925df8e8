/**
 * Learning rates as functions of the step, counted from 0: `optimizer.step({ lr: schedule(step) })`. They have no state,
 * so a resumed run needs nothing but its step.
 */

import { aFunction, aNumber, check, oneOf } from '../core/arguments.ts'

/** A learning rate by step. */
export type Schedule = (step: number) => number

/** Throws TypeError unless all are numbers. */
function checkNumbers(op: string, named: Readonly<Record<string, number>>): void {
  for (const name in named) check(op, name, named[name], aNumber)
}

/** The same at every step. */
export function constant(lr: number): Schedule {
  checkNumbers('constant', { lr })
  return () => lr
}

/**
 * `schedule`, scaled by step / steps until that is 1: the first step has rate 0. As MaskDM has it, no warm-up (0 steps)
 * leaves `schedule` as it is.
 */
export function warmUp(steps: number, schedule: Schedule): Schedule {
  checkNumbers('warmUp', { steps })
  check('warmUp', 'schedule', schedule, aFunction)
  return step => schedule(step) * (steps === 0 ? 1 : Math.min(step / steps, 1))
}

/**
 * MaskDiT's ramp, which counts pictures: `schedule`, scaled by step · batch / (kimg · 1000) until that is 1. The first
 * step has rate 0 even where kimg is 0.
 */
export function rampUp(batch: number, kimg: number, schedule: Schedule): Schedule {
  checkNumbers('rampUp', { batch, kimg })
  check('rampUp', 'schedule', schedule, aFunction)
  return step => schedule(step) * Math.min((step * batch) / Math.max(kimg * 1000, 1e-8), 1)
}

/** From lr down to `end` over half a cosine, then `end`; over 0 steps, `end` at once. [SGDR eq. 5] */
export function cosine(lr: number, steps: number, end = 0): Schedule {
  checkNumbers('cosine', { lr, steps, end })
  return step => end + ((lr - end) * (1 + Math.cos(Math.PI * (step < steps ? step / steps : 1)))) / 2
}

/**
 * MDT's straight line from lr down to 0. There the rate is set after each step by that step's number, so the first two
 * steps have rate lr, and step s + 1 has lr (1 − s / steps). 0 steps mean no annealing, as there.
 */
export function linearAnneal(lr: number, steps: number): Schedule {
  checkNumbers('linearAnneal', { lr, steps })
  return step => (steps === 0 ? lr : lr * (1 - Math.min(Math.max(step - 1, 0) / steps, 1)))
}

/** lr, a tenth of it from the second third of `steps` on, and a hundredth in the last third. [ResNet §4.2] */
export function stepDecay(lr: number, steps: number): Schedule {
  checkNumbers('stepDecay', { lr, steps })
  return step => lr * 0.1 ** Math.min(Math.floor((3 * step) / steps), 2)
}

/** Names of learning-rate schedules: constant, half a cosine, a line to 0, tenfold steps. */
export const scheduleNames = ['constant', 'cosine', 'linear', 'step'] as const
/** Name of a learning-rate schedule. */
export type ScheduleName = (typeof scheduleNames)[number]

/** The schedule of that name over a run of `steps` steps, which 'constant' ignores, from the rate lr. */
export function scheduleOf(name: ScheduleName, lr: number, steps: number): Schedule {
  check('scheduleOf', 'name', name, oneOf(scheduleNames))
  checkNumbers('scheduleOf', { lr, steps })
  if (name === 'constant') return constant(lr)
  return { cosine, linear: linearAnneal, step: stepDecay }[name](lr, steps)
}
