/**
 * Every public function and class of evaluation answers wrong calls in one line that begins with its name. One that has no
 * right call here fails the test.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { shapes } from '../../core/index.ts'
import * as evaluation from '../../evaluation/index.ts'
import { constructing, type RightCall, testCalls } from '../core/wrong-calls.ts'

const features = () => ({ data: Float64Array.of(1, 2, 3, 5, 8, 13), shape: [3, 2] })
const gaussian = () => evaluation.featureGaussian(features())
const init = () => ({ rng: null, backend: shapes })

type Row = readonly [args: () => readonly unknown[], accepts?: readonly string[]]

const functions: Record<string, Row> = {
  featureGaussian: [() => [features()]],
  frechetDistance: [() => [gaussian(), gaussian()]],
  inceptionScore: [() => [features(), 2], ['1 fraction']],
  manifoldRadii: [() => [features(), 1]],
  precisionRecall: [() => [features(), features(), 1]],
}

const classes: Record<string, Row> = {
  EmojiFeatures: [() => [8, init(), [32]], ['2 ofNaN']],
  FeatureStatistics: [() => [2]],
  InceptionV3: [() => [init()]],
}

const named = evaluation as unknown as Readonly<Record<string, RightCall['call']>>

testCalls(
  test,
  Object.fromEntries([
    ...Object.entries(functions).map(([name, [args, accepts]]) => [name, { call: named[name], args, accepts }]),
    ...Object.entries(classes).map(([name, [args, accepts]]) => [
      name,
      { call: constructing(named[name]), args, accepts },
    ]),
  ]),
)

test('every public function and class with arguments has a right call', () => {
  const missing = Object.entries(evaluation)
    .filter(([, value]) => typeof value === 'function' && value.length > 0)
    .map(([name]) => name)
    .filter(name => !(name in functions || name in classes))
  assert.equal(missing, [])
})

const statistics = () => new evaluation.FeatureStatistics(2)

/** Methods, by the name that their errors begin with. */
const methods: Record<string, RightCall> = {
  'FeatureStatistics.add': {
    call: (each: unknown) => statistics().add(each as evaluation.Features),
    args: () => [features()],
  },
  'FeatureStatistics.from': {
    call: (state: unknown) =>
      evaluation.FeatureStatistics.from(state as Parameters<typeof evaluation.FeatureStatistics.from>[0]),
    args: () => [statistics().state()],
  },
  'FeatureStatistics.merge': {
    call: (other: unknown) => statistics().merge(other as evaluation.FeatureStatistics),
    args: () => [statistics()],
  },
}

testCalls(test, methods)

test('a single feature has no covariance', () => {
  const single = { data: Float64Array.of(1, 2), shape: [1, 2] }
  assert.throws(() => evaluation.featureGaussian(single), /^featureGaussian: expected at least 2 features, got 1$/)
})

test.run()
