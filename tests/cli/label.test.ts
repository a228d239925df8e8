/** Classes as people type them: commas, spaces, Unicode's two ways, numbers. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { labelOf, labelsOf } from '../../cli/label.ts'
import { UserError } from '../../io/user-error.ts'

function refused(call: () => unknown, words: string): void {
  assert.throws(call, (error: Error) => error instanceof UserError && error.message === words)
}

test('names with commas: alone, in lists, and the longest first', () => {
  const classes = ['goldfish, Carassius auratus', 'tench, Tinca tinca', 'tench', 'cat']
  assert.equal(labelsOf('tench, Tinca tinca', 4, classes), [1])
  assert.equal(labelsOf('cat,tench, Tinca tinca,tench', 4, classes), [3, 1, 2])
  assert.equal(labelsOf('cat, goldfish, Carassius auratus, 2', 4, classes), [3, 0, 2])
  refused(
    () => labelsOf('cat,cow', 2, ['cat', 'dog']),
    "--class: expected a number below 2 or one of cat, dog, got 'cow'",
  )
})

test('the exact name wins over the one with other spaces, and that over an index', () => {
  const classes = [' cat', 'cat', 'dog ', '#1']
  assert.equal(
    [' cat', 'cat', 'dog', 'dog ', ' dog'].map(name => labelOf(name, 4, classes)),
    [0, 1, 2, 2, 2],
  )
  assert.is(labelOf('#1', 4, classes), 3)
  assert.is(labelOf('#0', 4, classes), 0)
})

test('NFC and NFD are the same name, and where both are classes the exact one is meant', () => {
  const [nfc, nfd] = ['caf\u00e9', 'cafe\u0301']
  assert.is(labelOf(nfc, 1, [nfd]), 0)
  assert.is(labelOf(nfd, 1, [nfc]), 0)
  assert.equal(
    [nfc, nfd].map(name => labelOf(name, 2, [nfd, nfc])),
    [1, 0],
  )
  assert.equal(labelsOf(`a,${nfc}`, 2, ['a', nfd]), [0, 1])
})

test('a number is a name where a class is named by one, else an index; #3 is always an index', () => {
  const classes = ['0', '1', '10', '2']
  assert.equal(
    ['0', '1', '10', '2'].map(name => labelOf(name, 4, classes)),
    [0, 1, 2, 3],
  )
  assert.equal(
    ['#0', '#2', '#3'].map(name => labelOf(name, 4, classes)),
    [0, 2, 3],
  )
  refused(() => labelOf('3', 4, classes), "--class: expected an index #0 to #3 or one of 0, 1, 10, 2, got '3'")
  refused(() => labelOf('#4', 4, classes), "--class: expected an index #0 to #3 or one of 0, 1, 10, 2, got '#4'")
  refused(
    () => labelOf('1', 3, ['cat', '7', 'owl']),
    "--class: expected an index #0 to #2 or one of cat, 7, owl, got '1'",
  )
  assert.is(labelOf('207', 1000, []), 207)
  assert.is(labelOf('#207', 1000, []), 207)
  assert.is(labelOf('1', 2, ['cat', 'dog']), 1)
  refused(() => labelOf('1000', 1000, []), "--class: expected a number below 1000, got '1000'")
  refused(() => labelOf('1', 0, []), '--class: expected a model with classes, got one without')
})

test.run()
