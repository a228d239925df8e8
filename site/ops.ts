/**
 * Writes docs/ops.md from the op registry: what every op computes, its gradient, what it is tested on, and which backends have
 * a kernel of their own for it. Run: npx tsx site/ops.ts. A test holds the page against the registry. Needs Node.
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Backend } from '../core/backend.ts'
import { cpu, registry } from '../core/index.ts'
import { type AnyOp, untyped } from '../core/op.ts'
import { sampler } from '../core/samples.ts'
import { scope } from '../core/scope.ts'
import { root } from './regions.ts'

const head = `# Ops

Made by \`npx tsx site/ops.ts\` from the registry; do not edit. An op's record is where its gradient is written down, and what
the samples are that every backend is tested on. *Own kernel*: the backends that compute the op by a kernel of that op;
elsewhere its decomposition runs, which is also its second derivative where the gradient is a kernel.

| op | what it computes | gradient | samples | own kernel |
|---|---|---|---|---|
`

/** The page. `backends` are held against each op; the first is where samples are made. */
export function opsPage(backends: readonly Backend[]): string {
  const sources = readdirSync(join(root, 'core/ops')).map(name => `core/ops/${name}`)
  const texts = new Map(sources.map(path => [path, readFileSync(join(root, path), 'utf8')]))
  const rows = [...registry().values()]
    .map(op => ({ op, ...placeOf(op.name, texts) }))
    .sort((a, b) => a.path.localeCompare(b.path) || a.line - b.line)
    .map(({ op, path, line, about, rule }) => {
      const cells = [
        `[\`${op.name}\`](../${path}#L${line})`,
        about,
        gradientOf(op, rule),
        samplesOf(op),
        ownersOf(op, backends),
      ]
      return `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
    })
  return `${head}${rows.join('\n')}\n`
}

/** Where the record stands, and the first sentence of the function that people call. */
function placeOf(name: string, texts: ReadonlyMap<string, string>) {
  for (const [path, text] of texts) {
    const at = new RegExp(`\\bname: '${name}'|^export function ${name}\\b`, 'm').exec(text)
    if (at === null) continue
    const line = text.slice(0, at.index).split('\n').length
    const doc = new RegExp(`/\\*\\*((?:(?!\\*/)[^])*)\\*/\\nexport function ${name}\\b`).exec(text)?.[1] ?? ''
    const about = doc.replace(/\n \*/g, '').replace(/ Throws.*$/, '')
    return { path, line, rule: ruleAt(text, at.index), about: about.trim() || '–' }
  }
  throw new Error(`ops: expected a record named '${name}' in core/ops, got none`)
}

/** The gradient rule of the record that begins at `from`, where it is short. */
function ruleAt(text: string, from: number): string | null {
  const record = text.slice(from, text.indexOf('\n})', from))
  const start = record.search(/\bvjp: /)
  if (start < 0) return null
  let depth = 0
  let end = start
  for (; end < record.length; end++) {
    const char = record[end]
    if ('([{'.includes(char)) depth++
    if (')]}'.includes(char) && --depth < 0) break
    if (char === ',' && depth === 0) break
  }
  const rule = record
    .slice(start + 5, end)
    .replace(/\s+/g, ' ')
    .trim()
  return rule.length <= 110 ? `\`${rule}\`` : null
}

function gradientOf(op: AnyOp, rule: string | null): string {
  const { differentiable, many, ...record } = untyped(op)
  if (differentiable === 'none') return 'none'
  if (many) return 'through what it stands for'
  const said = 'vjp' in record && record.vjp !== undefined ? (rule ?? 'in the record') : 'through what it stands for'
  return differentiable === 'once' ? `${said}, once (kinks)` : said
}

function samplesOf(op: AnyOp): string {
  return scope(() =>
    untyped(op)
      .samples(sampler(0))
      .map(({ x }) => x.map(({ shape }) => `[${shape.join(', ')}]`).join(' '))
      .join('; '),
  )
}

/** Backends on which `forward` finds all the kernels that it asks for by a name of the op's own family. */
function ownersOf(op: AnyOp, backends: readonly Backend[]): string {
  return (
    backends
      .filter(({ kernels }) => hasKernel(op, kernels))
      .map(({ name }) => name)
      .join(', ') || 'none'
  )
}

/** Asks for the op's kernels without running them. */
function hasKernel(op: AnyOp, kernels: object): boolean {
  const record = untyped(op)
  const storage = { backend: { free() {} } }
  const asked = new Proxy(kernels, { get: (target, name) => (name in target ? () => storage : undefined) })
  return scope(() => {
    const [{ x, attrs }] = record.samples(sampler(0))
    const shape = record.infer(x.map(t => t.shape) as never, attrs)
    const result = record.many
      ? record.forward(asked as never, x, attrs)
      : record.forward(asked as never, x, attrs, { shape: shape as readonly number[], dtype: x[0].dtype })
    return result !== undefined
  })
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { createWasm } = await import('../core/backends/wasm/index.ts')
  const { gpu } = await import('../core/backends/gpu/index.ts')
  writeFileSync(join(root, 'docs/ops.md'), opsPage([cpu, await createWasm({ threads: 1 }), await gpu()]))
  process.exit()
}
