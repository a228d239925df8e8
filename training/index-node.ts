/**
 * The run around a training loop: checkpoints, logs, progress, pictures, signals; and the programs behind `demask train`.
 * Needs Node. Read run.ts first.
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
export { writeComparison } from './compare.ts'
export { familyProgram } from './family-program.ts'
export * from './index.ts'
export { Interrupt } from './interrupt.ts'
export { MetricsLog, type Row, readRows } from './metrics.ts'
export { type GridOptions, writeGrid } from './pictures.ts'
export {
  type Described,
  describeRun,
  type OpenedRun,
  type Origin,
  openDryRun,
  openRun,
  type Shown,
  type TrainingCommand,
  type TrainingProgram,
} from './program.ts'
export { type AnyProgram, programs } from './programs.ts'
export { duration, Progress, type ProgressOptions } from './progress.ts'
export { type RunDescription, writeRunReadme } from './readme.ts'
export { writeReport } from './report.ts'
export {
  arithmetic,
  backendWarning,
  checkSameData,
  previousRun,
  type ResumePoint,
  type RunDescribed,
  type RunState,
  restore,
  resumePoint,
  type TrainingState,
} from './resume.ts'
export { type BatchSource, Run, type RunOptions } from './run.ts'
export { type ListedRun, listRuns } from './run-summary.ts'
export { type OwnRun, type OwnRunSettings, type OwnTrained, startRun } from './start-run.ts'
export { type GuardedStep, StepGuard } from './step-guard.ts'
export { train } from './train.ts'
export { version } from './version.ts'
