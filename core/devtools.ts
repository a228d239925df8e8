/**
 * Tensors in the console of a browser: a custom formatter, which Chromium and Firefox call for every logged object once
 * "custom formatters" is switched on in the settings of their developer tools.
 */

import { textOf, valuesOf } from './print.ts'
import { Tensor } from './tensor.ts'

/** An element as developer tools read it. */
type Markup = readonly [tag: string, attributes: { readonly style?: string }, text: string]

interface Formatter {
  header(value: unknown): Markup | null
  hasBody(value: unknown): boolean
  body(value: unknown): Markup | null
}

/** Text beyond the first line goes into the body, which opens by a click. */
const formatter: Formatter = {
  header: value => (value instanceof Tensor ? ['span', {}, textOf(value).split(':\n')[0]] : null),
  hasBody: value => value instanceof Tensor && valuesOf(value).includes('\n'),
  body: value => (value instanceof Tensor ? ['pre', { style: 'margin: 0 0 0 1em' }, valuesOf(value)] : null),
}

/** Shows tensors with their dtype, shape (…) and values in the developer tools of this page. Does it once. */
export function showTensorsInDevtools(): void {
  const page = globalThis as { devtoolsFormatters?: unknown[] }
  page.devtoolsFormatters ??= []
  if (!page.devtoolsFormatters.includes(formatter)) page.devtoolsFormatters.push(formatter)
}
