/**
 * The experiments of docs/evidence as data: which runs, with which flags, measured at which steps. Runs train small models on
 * emoji of 16 pixels, all classes, with a tenth of the base emoji held out; the flagship has 32 pixels. A run is one seed of
 * one setting.
 */

/** A training run. */
export interface EvidenceRun {
  /** Name of its file of results, unique in the experiment. */
  readonly name: string
  /** Command of `demask train`. */
  readonly family: 'dit' | 'mdt' | 'mdtv2' | 'maskdit' | 'maskdm'
  /** Operands and flags, without data, size, seed, folder and length. */
  readonly flags: readonly string[]
  readonly seed: number
  /** Steps at which samples are measured, rising, each a multiple of `saveEvery`; training ends at the last. */
  readonly points: readonly number[]
  /** A run of the same experiment whose weights this one starts from. */
  readonly from?: string
  /** Pictures that it trains on, and that samples are compared with, as `--data` names them. */
  readonly data: string
  readonly reference: string
  /** Height and width of the pictures. */
  readonly size: number
  /** Scale of guidance of another measurement at the last point. */
  readonly guidance?: number
  /** False if the last point is measured with as few samples as the others only. */
  readonly end: boolean
}

/** Runs that judge one claim. */
export interface Experiment {
  /** The claim, with its source. */
  readonly claim: string
  readonly runs: readonly EvidenceRun[]
}

/** Steps between checkpoints and measurements of the held-out loss. */
export const saveEvery = 50

/** Flags of all runs but those that tune another one. */
const usual = ['--batch', '64', '--lr', '0.001', '--held-out', '0.1'] as const
/** Flags of a small model of emoji of 16 pixels, class = category. */
const small = [...usual, '--preset', 'tiny', '--labels', 'yes'] as const

/**
 * Samples of the points of a curve, of a second measurement at its end, and of a grid: number, and forward passes for each.
 */
export const samples = { curve: { count: 500, passes: 25 }, end: { count: 2000, passes: 50 }, grid: 81 } as const

/** A few smileys, evenly over all 169: the file is made for its runs. */
export const fewSmileys = { count: 40, data: 'npz:smileys-40.npz' } as const

type Setting = Omit<EvidenceRun, 'seed' | 'data' | 'reference' | 'size' | 'end'> &
  Partial<Pick<EvidenceRun, 'data' | 'reference' | 'size' | 'end'>>

/** One seed of a setting. Its name is that of the setting and the seed. */
function run(setting: Setting, seed = 0): EvidenceRun {
  const { name, from, data = 'emoji', reference = data, size = 16, end = true } = setting
  return {
    ...setting,
    ...{ name: `${name}-${seed}`, seed, data, reference, size, end },
    ...(from !== undefined && { from: `${from}-${seed}` }),
  }
}

/** The same setting with the seeds 0, 1, … */
function seeds(count: number, setting: Setting): EvidenceRun[] {
  return Array.from({ length: count }, (_, seed) => run(setting, seed))
}

const curve = [500, 1000, 1500, 2000, 3000, 4700] // 4,700 steps of 64 are 300 k pictures
const quarter = [500, 1200]
const fineTuning = [100, 250, 500, 1000]

/** MaskDM of one class or none, on a part of the emoji. */
const unlabelled = [...usual, '--preset', 'tiny', '--labels', 'no'] as const

/** Fine-tuning on smileys from scratch and from pre-training on all other emoji, three seeds each. */
function transfer(name: string, data: string): EvidenceRun[] {
  const target = { family: 'maskdm', data, reference: 'emoji:smileys', points: fineTuning } as const
  return [
    ...seeds(3, { ...target, name: `scratch-${name}`, flags: ['finetune', '--from', 'scratch', ...unlabelled] }),
    ...seeds(3, { ...target, name: `transfer-${name}`, flags: ['finetune', ...unlabelled], from: 'others' }),
  ]
}

/** Flags of the flagship: a longer average, and nearly all pictures. */
const large = ['--batch', '64', '--lr', '0.001', '--ema', '0.9995', '--held-out', '0.02'] as const

/** Presets that train to step 1,000 within an hour of one core, and the size of their pictures. */
const withinAnHour = { tiny: 16, 'tiny/4': 32, 'tiny/8': 64 } as const

export const experiments: Readonly<Record<string, Experiment>> = {
  quick: {
    claim: "MDT needs fewer steps than DiT for the same distance [MDT figure 1], within half an hour's training",
    runs: [
      run({ name: 'dit', family: 'dit', flags: small, points: [250, 500], end: false }),
      run({ name: 'mdt', family: 'mdt', flags: small, points: [250, 500], end: false }),
    ],
  },
  mdt: {
    claim: 'MDT reaches the distance of DiT in about a third of the steps [MDT §4.2, figure 1]',
    runs: [
      ...seeds(3, { name: 'dit', family: 'dit', flags: small, points: curve }),
      ...seeds(3, { name: 'mdt', family: 'mdt', flags: small, points: curve }),
      run({ name: 'mdtv2', family: 'mdtv2', flags: small, points: curve }),
      // MDT's network without its masked pass, for the same cost: twice the steps.
      run({
        name: 'full',
        family: 'mdt',
        flags: ['--ablation', 'full-latent', ...small],
        points: curve.map(step => 2 * step),
      }),
    ],
  },
  'mdt-ablations': {
    claim: 'Mask ratio, side-interpolator and decoder position matter as in tables 3 to 5 of the MDT paper',
    runs: ['masking-ratio-0.1', 'masking-ratio-0.5', 'no-side-interpolator', 'decoder-last0'].map(ablation =>
      run({ name: ablation, family: 'mdt', flags: ['--ablation', ablation, ...small], points: quarter, end: false }),
    ),
  },
  maskdit: {
    claim:
      'Half of the tokens with the MAE loss train as well as all of them, for about 60 % of the cost [MaskDiT §3.2]',
    runs: [
      ...seeds(3, {
        name: 'full',
        family: 'maskdit',
        flags: ['--mask-ratio', '0', '--loss', 'dsm', ...small],
        points: curve,
        guidance: 1.5,
      }),
      ...seeds(3, {
        name: 'half',
        family: 'maskdit',
        flags: ['--mask-ratio', '0.5', ...small],
        points: curve,
        guidance: 1.5,
      }),
      run({
        name: 'half-without-mae',
        family: 'maskdit',
        flags: ['--mask-ratio', '0.5', '--loss', 'dsm', ...small],
        points: curve,
      }),
      run({
        name: 'three-quarters',
        family: 'maskdit',
        flags: ['--mask-ratio', '0.75', ...small],
        points: curve,
      }),
      // Tuning takes model, data and other settings from the run that it tunes.
      ...(['zero', 'cosine'] as const).map(tune =>
        run({
          name: `tuned-${tune}`,
          family: 'maskdit',
          flags: ['--tune', tune],
          points: [500],
          from: 'half',
          guidance: 1.5,
        }),
      ),
    ],
  },
  maskdm: {
    claim: 'Masked pre-training and fine-tuning beat training from scratch at equal cost [MaskDM §4]',
    runs: [
      run({
        name: 'scratch',
        family: 'maskdm',
        flags: ['finetune', '--from', 'scratch', ...small],
        points: curve,
      }),
      run({
        name: 'pretrain90',
        family: 'maskdm',
        flags: ['pretrain', '--mask-ratio', '0.9', ...small],
        points: [4700],
      }),
      run({
        name: 'finetune90',
        family: 'maskdm',
        flags: ['finetune', ...small],
        points: fineTuning,
        from: 'pretrain90',
      }),
      run({
        name: 'pretrain50',
        family: 'maskdm',
        flags: ['pretrain', '--mask-ratio', '0.5', ...small],
        points: [2350],
      }),
      run({
        name: 'finetune50',
        family: 'maskdm',
        flags: ['finetune', ...small],
        points: fineTuning,
        from: 'pretrain50',
      }),
    ],
  },
  'maskdm-transfer': {
    claim: 'Pre-training on other pictures helps most where there are few of one’s own: 46 % [MaskDM §4]',
    runs: [
      ...seeds(3, {
        name: 'others',
        family: 'maskdm',
        flags: ['pretrain', '--mask-ratio', '0.5', ...unlabelled],
        data: 'emoji:others',
        points: [2350],
      }),
      ...transfer('all', 'emoji:smileys'),
      ...transfer(String(fewSmileys.count), fewSmileys.data),
    ],
  },
  reference: {
    claim: 'Loss curves of the presets that train within an hour',
    runs: (['dit', 'mdt', 'mdtv2', 'maskdit', 'maskdm'] as const).flatMap(family =>
      Object.entries(withinAnHour).map(([preset, size]) =>
        run({
          name: `${family}-${preset.replace('/', '')}`,
          family,
          flags: [...(family === 'maskdm' ? ['pretrain'] : []), ...usual, '--preset', preset, '--labels', 'yes'],
          size,
          points: [1000],
          end: false,
        }),
      ),
    ),
  },
  flagship: {
    claim: 'The best model of emoji at 32 pixels that four hours of two cores give',
    runs: [
      run({
        name: 'mdtv2',
        family: 'mdtv2',
        flags: ['--preset', 'tiny/4', '--labels', 'yes', ...large],
        size: 32,
        points: [500, 2000, 5000, 10000, 15000],
        guidance: 1.5,
      }),
    ],
  },
}
