/**
 * Finds the kernels in the compiler's syntax trees and generates what joins them to the host: the exports of the module,
 * and the host's types of all arguments. A kernel is a function (args: GemmArgs, chunk: i32) of kernels/. GemmArgs is an
 * @unmanaged class, the layout of the argument block: each field is one 32-bit word. A class that is decorated with the
 * name of a generic kernel of its file selects an instance: `@unary class Neg` becomes the kernel `unaryNeg`.
 */

/** A source file of the AssemblyScript compiler, as far as it is read here. */
export interface Source {
  readonly internalPath: string
  readonly simplePath: string
  readonly statements: readonly unknown[]
}

/** A declaration: a function has a signature, a class has members. */
interface Declaration {
  readonly name: Identifier
  readonly decorators: readonly { readonly name: Identifier }[] | null
  readonly signature?: { readonly parameters: readonly Typed[] }
  readonly typeParameters?: readonly unknown[] | null
  readonly members?: readonly (Typed & { readonly name: Identifier })[]
}
interface Identifier {
  readonly text: string
}
interface Typed {
  readonly type: { readonly name: { readonly identifier: Identifier } } | null
}

/** A field type: the host's type, and the statement that writes `value` to word `i` of the argument block. */
interface FieldType {
  readonly host: string
  write(i: number, value: string): string
}

const integer: FieldType = { host: 'number', write: (i, value) => `words[${i}] = ${value}` }
const float: FieldType = { host: 'number', write: (i, value) => `floats[${i}] = ${value}` }

/** The field types that kernels/arguments.as.ts describes. */
const fieldTypes: Readonly<Record<string, FieldType>> = {
  i32: integer,
  usize: integer,
  f32: float,
  Address: { host: 'Address', write: integer.write },
  OptionalAddress: { host: 'Address | null', write: (i, value) => `words[${i}] = ${value} ?? 0` },
  Flag: { host: 'boolean', write: (i, value) => `words[${i}] = ${value} ? 1 : 0` },
  Table: {
    host: 'readonly number[]',
    write: (i, value) => `for (let k = 0; k < ${value}.length; k++) words[${i} + k] = ${value}[k]`,
  },
}

interface Field {
  readonly name: string
  readonly type: FieldType
}

/** A kernel: its file, its name in the module and its argument class. */
interface Kernel {
  readonly file: string
  readonly name: string
  readonly argumentClass: string
  /** Generic function and its type argument, for an instance of a generic kernel. */
  readonly instance?: readonly [generic: string, argument: string]
}

/** An argument class: its file, and its fields in order. */
interface ArgumentClass {
  readonly file: string
  readonly fields: readonly Field[]
}

/** All kernels and their argument classes. */
export interface Bindings {
  readonly kernels: readonly Kernel[]
  readonly classes: ReadonlyMap<string, ArgumentClass>
}

/** Returns the kernels of these sources. Throws if the field of an argument class has an unknown type. */
export function findKernels(sources: readonly Source[]): Bindings {
  const files = sources
    .filter(({ internalPath }) => internalPath.startsWith('kernels/'))
    .map(({ simplePath, statements }) => ({ file: simplePath, declarations: statements as Declaration[] }))
  const kernels = files.flatMap(({ file, declarations }) => kernelsOf(file, declarations))
  const used = new Set(kernels.map(({ argumentClass }) => argumentClass))
  const classes = new Map<string, ArgumentClass>()
  for (const { file, declarations } of files)
    for (const declaration of declarations)
      if (used.has(declaration.name?.text)) classes.set(declaration.name.text, { file, fields: fieldsOf(declaration) })
  return { kernels, classes }
}

/** Returns the kernels that a file declares, instances of generic kernels included. */
function kernelsOf(file: string, declarations: readonly Declaration[]): Kernel[] {
  return declarations.flatMap(({ name: { text: name } = { text: '' }, signature, typeParameters }) => {
    const [argumentClass, chunk] = signature?.parameters.map(({ type }) => type?.name.identifier.text) ?? []
    if (!argumentClass?.endsWith('Args') || chunk !== 'i32') return []
    if (!typeParameters) return [{ file, name, argumentClass }]
    return declarations
      .filter(({ decorators }) => decorators?.some(decorator => decorator.name.text === name))
      .map(({ name: { text: own } }) => ({ file, name: name + own, argumentClass, instance: [name, own] as const }))
  })
}

/** Returns the fields of an argument class. Throws if a field is not one word or a table is not the last field. */
function fieldsOf({ name, members }: Declaration): Field[] {
  return members!.map((member, i) => {
    const type = member.type?.name.identifier.text ?? 'none'
    if (!(type in fieldTypes) || (type === 'Table' && i < members!.length - 1))
      throw new Error(`${name.text}.${member.name.text}: expected a type of kernels/arguments.as.ts, got ${type}`)
    return { name: member.name.text, type: fieldTypes[type] }
  })
}

/** Returns the AssemblyScript that exports all kernels. */
export function exportKernels({ kernels, classes }: Bindings): string {
  const files = new Set<string>()
  /** Returns how the exporting file refers to a name of another. */
  const refer = (file: string, name: string) => {
    files.add(file)
    return `${file.replace(/\W/g, '_')}.${name}`
  }
  const lines = kernels.map(({ file, name, argumentClass, instance }) => {
    if (instance === undefined) return `export { ${name} } from './${file}'`
    const type = refer(classes.get(argumentClass)!.file, argumentClass)
    const [generic, argument] = instance.map(own => refer(file, own))
    return `export function ${name}(args: ${type}, chunk: i32): void { ${generic}<${argument}>(args, chunk) }`
  })
  const imports = [...files].map(file => `import * as ${file.replace(/\W/g, '_')} from './${file}'`)
  return [...imports, ...lines].join('\n')
}

/** Returns the host's module: an interface and a writer of each argument class, and the writer of each kernel. */
export function hostModule({ kernels, classes }: Bindings): string {
  const declarations = [...classes].flatMap(([name, { fields }]) => {
    const views = fields.some(({ type }) => type === float)
      ? 'words: Int32Array, floats: Float32Array'
      : 'words: Int32Array'
    return [
      `export interface ${name} {`,
      ...fields.map(field => `  readonly ${field.name}: ${field.type.host}`),
      '}',
      `function write${name}(args: ${name}, ${views}): void {`,
      ...fields.map((field, i) => `  ${field.type.write(i, `args.${field.name}`)}`),
      '}',
    ]
  })
  return [
    '// Written by ../build.ts from the argument classes of ../kernels/*.as.ts.',
    "import type { Address } from '../memory.ts'",
    ...declarations,
    'export const writers = {',
    ...kernels.map(({ name, argumentClass }) => `  ${name}: write${argumentClass},`),
    '}\n',
  ].join('\n')
}
