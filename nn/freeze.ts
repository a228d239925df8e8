/** Freezing of parameters by name, for fine-tuning: a frozen one gets no gradient, no optimizer state and no decay. */

import { check, strings } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import { aModule, type Module, StateTensor } from './module.ts'

/**
 * Freezes the parameters of a module whose names match one of `patterns`, and returns their names in order. A pattern is the
 * name of a parameter or module (`blocks.0`), or a glob: `*` stands for any characters, `?` for one. Call
 * it before the optimizer is made. Throws RangeError on a pattern that matches nothing; then none is frozen.
 */
export function freezeParameters(module: Module, patterns: readonly string[]): string[] {
  check('freezeParameters', 'module', module, aModule)
  check('freezeParameters', 'patterns', patterns, strings)
  const parameters = [...module.namedParameters()]
  const matchers = patterns.map(matcherOf)
  const idle = matchers.findIndex(matcher => !parameters.some(([name]) => matcher.test(name)))
  if (idle >= 0) {
    const known = [...new Set(parameters.map(([name]) => name.split('.')[0]))]
    throw atCaller(
      new RangeError(
        `freezeParameters: expected the name or a glob of parameters below ${known.join(', ')}, got '${patterns[idle]}'`,
      ),
    )
  }
  return parameters.flatMap(([name, tensor]) => {
    if (!matchers.some(matcher => matcher.test(name))) return []
    if (tensor instanceof StateTensor) tensor.freeze()
    return name
  })
}

/** An expression that matches the name of a pattern, and those of all parameters in a module of that name. */
function matcherOf(pattern: string): RegExp {
  const source = pattern.replace(/\.$/, '').replace(/[\\^$.|+()[\]{}*?]/g, symbol => {
    if (symbol === '*') return '.*'
    return symbol === '?' ? '.' : `\\${symbol}`
  })
  return new RegExp(`^${source}(\\.|$)`)
}
