/**
 * Statistics of features on disk. Needs Node. As .safetensors they are the whole sums of evaluation/statistics.ts, so that
 * parts of a set which were measured on several machines merge into the whole to the last bit; as .npz, mean and covariance
 * as pytorch-fid (`mu`, `sigma`) and ADM's evaluator (`mu_s` and `sigma_s` too) read and write them.
 */

import { writeAside } from '../io/aside.ts'
import { readNpz, writeNpz } from '../io/npz.ts'
import { type HostTensor, SafetensorsError } from '../io/safetensors.ts'
import { readSafetensors, writeSafetensors } from '../io/safetensors-node.ts'
import { UserError } from '../io/user-error.ts'
import { type FeatureGaussian, FeatureStatistics } from './index.ts'

/** Running statistics of `pool` and of `spatial` features. */
export interface SetStatistics {
  readonly pool: FeatureStatistics
  readonly spatial: FeatureStatistics
}

/** Statistics of a set, as read from a file. */
export interface StoredStatistics {
  readonly pool: FeatureGaussian
  /** Not in files of pytorch-fid. */
  readonly spatial: FeatureGaussian | null
  /** Name of the feature network; null in an .npz, which does not hold it. */
  readonly features: string | null
  /** Sums, to which more pictures can be added; null in an .npz. */
  readonly sums: SetStatistics | null
}

const kinds = ['pool', 'spatial'] as const

/** Writes an .npz or .safetensors, by its name; `features` is what they were made with. Throws UserError. */
export async function writeStatistics(path: string, statistics: SetStatistics, features: string): Promise<void> {
  if (path.endsWith('.npz')) {
    const [pool, spatial] = kinds.map(kind => statistics[kind].gaussian())
    const vector = ({ mean }: FeatureGaussian) => ({ dtype: 'F64' as const, shape: [mean.length], data: mean })
    const matrix = ({ covariance: { rows, columns, data } }: FeatureGaussian) => ({
      dtype: 'F64' as const,
      shape: [rows, columns],
      data,
    })
    const arrays = { mu: vector(pool), sigma: matrix(pool), mu_s: vector(spatial), sigma_s: matrix(spatial) }
    return writeNpz(path, new Map(Object.entries(arrays)))
  }
  if (!path.endsWith('.safetensors'))
    throw new UserError(`${path}: expected a name that ends with .npz or .safetensors`)
  const tensors = kinds.flatMap(kind => {
    const { count, size, sums, products } = statistics[kind].state()
    const tensor = (data: ArrayLike<number>, ...shape: number[]): HostTensor<ArrayLike<number>> => ({
      dtype: 'F64',
      shape,
      data,
    })
    return [
      [`${kind}.seen`, tensor([count, size], 2)],
      [`${kind}.sums`, tensor(sums, 2, sums.length / 2)],
      [`${kind}.products`, tensor(products, 2, products.length / 2)],
    ] as const
  })
  await writeAside(path, aside => writeSafetensors(aside, new Map(tensors), new Map([['features', features]])))
}

/** Statistics of a file, .npz or .safetensors. Rejects with one line that names the path where it holds none. */
export async function readStatistics(path: string): Promise<StoredStatistics> {
  if (path.endsWith('.npz')) {
    const arrays = await readNpz(path, ['mu', 'sigma', 'mu_s', 'sigma_s'])
    const pool = gaussianOf(arrays, 'mu', 'sigma', path)
    if (pool === null)
      throw new SafetensorsError(
        `${path}: expected arrays mu and sigma, got ${[...arrays.keys()].join(', ') || 'neither'}`,
      )
    return { pool, spatial: gaussianOf(arrays, 'mu_s', 'sigma_s', path), features: null, sums: null }
  }
  const { tensors, metadata } = readSafetensors(path)
  const [pool, spatial] = kinds.map(kind => {
    const parts = ['seen', 'sums', 'products'].map(part => tensors.get(`${kind}.${part}`))
    if (parts.some(part => part?.dtype !== 'F64'))
      throw new SafetensorsError(`${path}: expected statistics of features, got ${[...tensors.keys()].join(', ')}`)
    const [seen, sums, products] = parts.map(part => part!.data as Float64Array)
    try {
      return FeatureStatistics.from({ count: seen[0], size: seen[1], sums, products })
    } catch (error) {
      throw new SafetensorsError(`${path}: ${(error as Error).message}`)
    }
  })
  return {
    pool: pool.gaussian(),
    spatial: spatial.gaussian(),
    features: metadata.get('features') ?? null,
    sums: { pool, spatial },
  }
}

function gaussianOf(
  arrays: ReadonlyMap<string, HostTensor>,
  mu: string,
  sigma: string,
  path: string,
): FeatureGaussian | null {
  const [mean, covariance] = [arrays.get(mu), arrays.get(sigma)]
  if (mean === undefined || covariance === undefined) return null
  const D = mean.data.length
  if (covariance.shape.length !== 2 || covariance.shape.some(n => n !== D))
    throw new SafetensorsError(`${path}: expected ${sigma} [${D}, ${D}], got [${covariance.shape.join(', ')}]`)
  const data = Float64Array.from(covariance.data, Number)
  return { mean: Float64Array.from(mean.data, Number), covariance: { rows: D, columns: D, data } }
}
