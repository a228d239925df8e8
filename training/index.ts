/** A training step and the settings of a run. Runs in a browser, too; index-node.ts has the run around the steps. */

export { countGeneration, countTraining, type ModelInTraining, type Needs } from './memory.ts'
export {
  type CommonSettings,
  type GuardSettings,
  newSettings,
  type RunSettings,
  type Settings,
  settingsTable,
} from './settings.ts'
export {
  type ComputePart,
  dispatchStep,
  runStep,
  type StepInputs,
  type StepOutcome,
  type StepPart,
  type Update,
} from './step.ts'
