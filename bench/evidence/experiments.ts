/**
 * The experiments of docs/evidence as data: which runs, with which flags, measured at which steps. Every run trains a small
 * model on emoji of 16 pixels, all classes, with a tenth of the base emoji held out. A run is one seed of one setting.
 */

/** A training run. */
export interface EvidenceRun {
  /** Name of its file of results, unique in the experiment. */
  readonly name: string
  /** Command of `demask train`. */
  readonly family: 'dit' | 'mdt' | 'mdtv2' | 'maskdit' | 'maskdm'
  /** Flags beyond those of all runs. */
  readonly flags: readonly string[]
  readonly seed: number
  /** Steps at which samples are measured, rising; training ends at the last. */
  readonly points: readonly number[]
  /** A run of the same experiment whose weights this one starts from. */
  readonly from?: string
}

/** Runs that judge one claim. */
export interface Experiment {
  /** The claim, with its source. */
  readonly claim: string
  readonly runs: readonly EvidenceRun[]
}

/** Flags of every run: emoji at 16 pixels, class = category. */
export const commonFlags = [
  ...['--data', 'emoji', '--size', '16', '--labels', 'yes', '--batch', '64', '--lr', '0.001'],
  ...['--preset', 'tiny', '--held-out', '0.1'],
] as const

/** Samples of a measurement on a curve: number, DDIM steps. */
export const pointSamples = { count: 500, steps: 25 } as const

/** The same setting with several seeds. */
function seeds(count: number, run: Omit<EvidenceRun, 'name' | 'seed'> & { readonly name: string }): EvidenceRun[] {
  return Array.from({ length: count }, (_, seed) => ({ ...run, name: `${run.name}-${seed}`, seed }))
}

const curve = [500, 1000, 1500, 2000, 3000, 4700] // 4,700 steps of 64 are 300 k pictures
const quarter = [500, 1175]
const fineTuning = [100, 200, 400, 800]

export const experiments: Readonly<Record<string, Experiment>> = {
  quick: {
    claim: "MDT needs fewer steps than DiT for the same distance [MDT figure 1], within half an hour's training",
    runs: [
      { name: 'dit-0', family: 'dit', flags: [], seed: 0, points: [250, 500] },
      { name: 'mdt-0', family: 'mdt', flags: [], seed: 0, points: [250, 500] },
    ],
  },
  mdt: {
    claim: 'MDT reaches the distance of DiT in about a third of the steps [MDT §4.2, figure 1]',
    runs: [
      ...seeds(3, { name: 'dit', family: 'dit', flags: [], points: curve }),
      ...seeds(3, { name: 'mdt', family: 'mdt', flags: [], points: curve }),
      { name: 'mdtv2-0', family: 'mdtv2', flags: [], seed: 0, points: curve },
      // Two full passes a step: the cost of MDT's step without its masking.
      { name: 'full-0', family: 'mdt', flags: ['--ablation', 'full-latent'], seed: 0, points: curve },
    ],
  },
  'mdt-ablations': {
    claim: 'Mask ratio, side-interpolator and decoder position matter as in tables 3 to 5 of the MDT paper',
    runs: [['masking-ratio-0.1'], ['masking-ratio-0.5'], ['no-side-interpolator'], ['decoder-last0']].map(
      ([ablation]) => ({
        name: ablation,
        family: 'mdt' as const,
        flags: ['--ablation', ablation],
        seed: 0,
        points: quarter,
      }),
    ),
  },
  maskdit: {
    claim:
      'Half of the tokens with the MAE loss train as well as all of them, for about 60 % of the cost [MaskDiT §3.2]',
    runs: [
      ...seeds(3, { name: 'full', family: 'maskdit', flags: ['--mask-ratio', '0', '--loss', 'dsm'], points: curve }),
      ...seeds(3, { name: 'half', family: 'maskdit', flags: ['--mask-ratio', '0.5'], points: curve }),
      {
        name: 'half-without-mae',
        family: 'maskdit',
        flags: ['--mask-ratio', '0.5', '--loss', 'dsm'],
        seed: 0,
        points: curve,
      },
      { name: 'three-quarters', family: 'maskdit', flags: ['--mask-ratio', '0.75'], seed: 0, points: curve },
    ],
  },
  maskdm: {
    claim: 'Masked pre-training and fine-tuning beat training from scratch at equal cost [MaskDM §4]',
    runs: [
      { name: 'scratch-0', family: 'maskdm', flags: ['finetune', '--from', 'scratch'], seed: 0, points: curve },
      { name: 'pretrain90-0', family: 'maskdm', flags: ['pretrain', '--mask-ratio', '0.9'], seed: 0, points: [4700] },
      {
        name: 'finetune90-0',
        family: 'maskdm',
        flags: ['finetune'],
        seed: 0,
        points: fineTuning,
        from: 'pretrain90-0',
      },
      { name: 'pretrain50-0', family: 'maskdm', flags: ['pretrain', '--mask-ratio', '0.5'], seed: 0, points: [2350] },
      {
        name: 'finetune50-0',
        family: 'maskdm',
        flags: ['finetune'],
        seed: 0,
        points: fineTuning,
        from: 'pretrain50-0',
      },
    ],
  },
}
