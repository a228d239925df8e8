/**
 * Descriptions of keys in the manifest, and the settings in their words. Some fixtures have an op's
 * stride or an optimizer's betas nowhere else.
 */

import { type Fixture, isObject } from './fixture.ts'

/** The description of a key; empty when the manifest has none. */
export function describe(fixture: Fixture, key: string): string {
  const { keys } = fixture.manifest
  const entry = isObject(keys) ? keys[key] : undefined
  return isObject(entry) && typeof entry.desc === 'string' ? entry.desc : ''
}

/** The respacing that the description of a key tells, as in `respacing "2,3,4"`; undefined when it tells none. */
export function spacingIn(fixture: Fixture, key: string): string | undefined {
  return /respac(?:ing|ed) "([\w,]*)"/.exec(describe(fixture, key))?.[1]
}

/** The first number that follows `label` in `text`, such as 2 for 's' in 'k3 s2 p1'; undefined when there is none. */
export function numberAfter(text: string, label: string): number | undefined {
  const found = new RegExp(`(?<![a-zA-Z])${label}[ =:]*(-?[0-9]*\\.?[0-9]+(?:e[-+]?[0-9]+)?)`).exec(text)
  return found === null ? undefined : Number(found[1])
}

/** A Python dictionary of numbers, booleans and tuples in `text`; empty if there is none. */
export function dictionary(text: string): Record<string, number | boolean | readonly number[]> {
  const literal = /\{[^{}]*\}/.exec(text)?.[0] ?? '{}'
  const json = literal
    .replaceAll("'", '"')
    .replaceAll('(', '[')
    .replaceAll(')', ']')
    .replaceAll(/\bTrue\b/g, 'true')
    .replaceAll(/\bFalse\b/g, 'false')
  return JSON.parse(json) as Record<string, number | boolean | readonly number[]>
}
