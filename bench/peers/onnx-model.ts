/**
 * Just enough of ONNX's protocol buffers to write a graph of nodes on f32 tensors, opset 20. What a field's number means is
 * in onnx.proto.
 */

type Attribute = number | string | readonly number[]

const text = new TextEncoder()

function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128)
    rest >>= 7n
  }
  return [...bytes, Number(rest)]
}

const int = (field: number, value: number): Uint8Array => Uint8Array.from([...varint(field << 3), ...varint(value)])

function bytes(field: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return join([Uint8Array.from([...varint((field << 3) | 2), ...varint(length)]), ...parts])
}

const string = (field: number, value: string): Uint8Array => bytes(field, text.encode(value))

function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

function float(field: number, value: number): Uint8Array {
  return join([Uint8Array.from(varint((field << 3) | 5)), new Uint8Array(Float32Array.of(value).buffer)])
}

function attribute(name: string, value: Attribute): Uint8Array {
  if (typeof value === 'string') return bytes(5, string(1, name), string(4, value), int(20, 3))
  if (typeof value !== 'number') return bytes(5, string(1, name), ...value.map(each => int(8, each)), int(20, 7))
  // The only fraction that an attribute of ours has is a norm's epsilon.
  return Number.isInteger(value)
    ? bytes(5, string(1, name), int(3, value), int(20, 2))
    : bytes(5, string(1, name), float(2, value), int(20, 1))
}

/** A graph under construction; values are names. */
export class OnnxModel {
  readonly #parts: Uint8Array[] = []
  #count = 0

  /** Adds a node with one result, or with `outputs` of them. */
  node(type: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.nodes(type, inputs, 1, attributes)[0]
  }

  nodes(
    type: string,
    inputs: readonly string[],
    outputs: number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string[] {
    const names = Array.from({ length: outputs }, () => `v${this.#count++}`)
    this.#parts.push(
      bytes(
        1,
        ...inputs.map(name => string(1, name)),
        ...names.map(name => string(2, name)),
        string(4, type),
        ...Object.entries(attributes).map(([name, value]) => attribute(name, value)),
      ),
    )
    return names
  }

  /** A constant of f32. */
  constant(values: Float32Array, shape: readonly number[]): string {
    return this.#initializer(1, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), shape)
  }

  /** A constant list of whole numbers, for shapes. */
  integers(...values: readonly number[]): string {
    return this.#initializer(7, new Uint8Array(BigInt64Array.from(values, BigInt).buffer), [values.length])
  }

  #initializer(type: number, raw: Uint8Array, shape: readonly number[]): string {
    const name = `c${this.#count++}`
    this.#parts.push(bytes(5, ...shape.map(size => int(1, size)), int(2, type), string(8, name), bytes(9, raw)))
    return name
  }

  input(name: string, shape: readonly number[]): string {
    this.#parts.push(valueInfo(11, name, shape))
    return name
  }

  /** The file, with the value `output` as its one result. */
  finish(output: string, shape: readonly number[]): Uint8Array {
    const graph = bytes(7, string(2, 'work'), ...this.#parts, valueInfo(12, output, shape))
    return join([int(1, 9), graph, bytes(8, string(1, ''), int(2, 20))])
  }
}

function valueInfo(field: number, name: string, shape: readonly number[]): Uint8Array {
  const dims = shape.map(size => bytes(1, int(1, size)))
  return bytes(field, string(1, name), bytes(2, bytes(1, int(1, 1), bytes(2, ...dims))))
}
