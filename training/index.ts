/**
 * The parts of a training program around its loop, which stays in the program: checkpoints, logs, progress, pictures,
 * signals, errors. Needs Node. Read checkpoint.ts first.
 */

export { type Scatter, writeLossCurve, writeScatter } from './charts.ts'
export {
  type Checkpoint,
  type CheckpointState,
  latestCheckpoint,
  loadCheckpoint,
  readState,
  saveCheckpoint,
} from './checkpoint.ts'
export { Interrupt } from './interrupt.ts'
export { MetricsLog, type Row, readRows } from './metrics.ts'
export { type GridOptions, writeGrid } from './pictures.ts'
export { duration, Progress, type ProgressOptions } from './progress.ts'
export { type RunDescription, writeRunReadme } from './readme.ts'
export { writeReport } from './report.ts'
export {
  arithmetic,
  isKept,
  keep,
  otherArithmetic,
  otherPictures,
  type RunDescribed,
  type RunState,
  restore,
  saidBefore,
  startingPoint,
  type TrainingState,
} from './run.ts'
export { StepGuard, type StepGuardOptions, type StepOutcome, unguarded } from './step-guard.ts'
export { version } from './version.ts'
