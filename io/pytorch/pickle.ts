/**
 * Python's pickles, protocols 2 to 5, read as data [pickle]. A pickle is a program for a small stack machine, and Python
 * runs whatever it names. Here the stack holds plain values, and what a name means is up to a `PickleHost` that knows a
 * short list of them (rebuild.ts). Objects of all other names are `Inert`: what the pickle says of them is kept as data,
 * and nothing is called. A pickle comes from anywhere: the machine has no recursion, and instructions, objects, memo and
 * work are bounded, so that no program of it takes long or takes much memory.
 */

import { quote } from '../safetensors-elements.ts'

/** A pickle that is damaged, or asks for what is refused, on one line. */
export class PickleError extends Error {
  override name = 'PickleError'
}

/** A pickle that continues after the end of its bytes. */
export class PickleCutShort extends PickleError {}

/** An object of a class, or the result of a function, that is not known: what its pickle says of it. */
export class Inert {
  /** The name of the class or function: `argparse.Namespace`. */
  readonly type: string
  readonly args: readonly unknown[]
  /** State that the pickle gave it: of most classes, its fields. */
  state: unknown = null
  /** Items that the pickle added to it as to a list or a set. */
  list: unknown[] | null = null
  /** Entries that the pickle set in it as in a dict. */
  items: Map<unknown, unknown> | null = null

  constructor(type: string, args: readonly unknown[]) {
    this.type = type
    this.args = args
  }
}

/**
 * Values of a pickle's names. Values are null, booleans, numbers, bigints, strings, bytes, arrays, Maps, Sets and
 * Inert objects.
 */
export interface PickleHost {
  /** Returns the value for `module.name`. Throws PickleError if it is not on the allow-list. */
  global(module: string, name: string): unknown
  /** `callable(*args)`. `spend` is to be called with the number of steps that it takes, before they are taken. */
  call(callable: unknown, args: readonly unknown[], spend: (steps: number) => void): unknown
  /** The object of a class after `state` was given to it. */
  build(object: unknown, state: unknown): unknown
  /** Returns the object of a persistent id, which is stored outside the pickle. */
  persistent(id: unknown): unknown
}

/** A checkpoint of a thousand tensors takes about 1 MB, but arrays beside them lie in the pickle. */
export const largestPickle = 2 ** 28
/** Instructions, values that it remembers, its lists, dicts and calls, and what the calls may do in all. */
const mostInstructions = 2 ** 24
const mostObjects = 2 ** 20
const mostSteps = 2 ** 24

/** The value that a pickle describes. Throws PickleError, naming `where`, and what the host throws. */
export function unpickle(bytes: Uint8Array, host: PickleHost, where: string): unknown {
  return unpickleAt(bytes, 0, host, where).value
}

/** The value of the pickle that begins at `begin`, and where it ends. Throws as `unpickle`. */
export function unpickleAt(
  bytes: Uint8Array,
  begin: number,
  host: PickleHost,
  where: string,
): { readonly value: unknown; readonly end: number } {
  if (bytes.length - begin > largestPickle)
    throw new PickleError(`${where}: expected a pickle of at most ${largestPickle} bytes, got ${bytes.length - begin}`)
  const machine = new Machine(bytes.subarray(begin), host, where)
  const value = machine.run()
  return { value, end: begin + machine.length }
}

class Machine {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #host: PickleHost
  readonly #where: string
  #at = 0
  readonly #stack: unknown[] = []
  /** Heights of the stack at the marks that are open. */
  readonly #marks: number[] = []
  readonly #memo = new Map<number, unknown>()
  #objects = 0
  #steps = 0

  constructor(bytes: Uint8Array, host: PickleHost, where: string) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#host = host
    this.#where = where
  }

  /** Bytes that were taken. */
  get length(): number {
    return this.#at
  }

  run(): unknown {
    if (this.#bytes[0] !== 0x80 || !(this.#bytes[1] >= 2 && this.#bytes[1] <= 5))
      this.#fail('expected a pickle of protocol 2 to 5, got another, or none')
    for (let instructions = 0; ; instructions++) {
      if (instructions === mostInstructions) this.#fail(`expected at most ${mostInstructions} instructions, got more`)
      const code = String.fromCharCode(this.#byte())
      if (code === '.') return this.#pop()
      const operation = Machine.#operations[code]
      if (operation === undefined) this.#fail(`expected an opcode of protocols 2 to 5, got ${quote(code)}`)
      operation.call(this)
    }
  }

  static readonly #operations: Readonly<Record<string, (this: Machine) => void>> = {
    // Protocol and frames say nothing that matters here.
    '\x80'() {
      this.#byte()
    },
    '\x95'() {
      this.#take(8)
    },
    // Constants.
    N() {
      this.#push(null)
    },
    '\x88'() {
      this.#push(true)
    },
    '\x89'() {
      this.#push(false)
    },
    // Numbers.
    J() {
      this.#push(this.#view.getInt32(this.#take(4), true))
    },
    K() {
      this.#push(this.#byte())
    },
    M() {
      this.#push(this.#view.getUint16(this.#take(2), true))
    },
    G() {
      this.#push(this.#view.getFloat64(this.#take(8)))
    },
    '\x8a'() {
      this.#push(this.#integer(this.#byte()))
    },
    '\x8b'() {
      this.#push(this.#integer(this.#length(4)))
    },
    // Text and bytes. What Python 2 called strings are bytes that are mostly ASCII.
    X() {
      this.#push(this.#text(this.#length(4)))
    },
    '\x8c'() {
      this.#push(this.#text(this.#byte()))
    },
    '\x8d'() {
      this.#push(this.#text(this.#length(8)))
    },
    T() {
      this.#push(latin1(this.#slice(this.#length(4))))
    },
    U() {
      this.#push(latin1(this.#slice(this.#byte())))
    },
    B() {
      this.#push(this.#slice(this.#length(4)))
    },
    C() {
      this.#push(this.#slice(this.#byte()))
    },
    '\x8e'() {
      this.#push(this.#slice(this.#length(8)))
    },
    '\x96'() {
      this.#push(this.#slice(this.#length(8)))
    },
    // Stack and memo.
    '('() {
      this.#marks.push(this.#stack.length)
    },
    '0'() {
      if (this.#stack.length === this.#marks.at(-1)) this.#marks.pop()
      else this.#pop()
    },
    '1'() {
      this.#popToMark()
    },
    '2'() {
      this.#push(this.#top())
    },
    q() {
      this.#remember(this.#byte())
    },
    r() {
      this.#remember(this.#length(4))
    },
    '\x94'() {
      this.#remember(this.#memo.size)
    },
    h() {
      this.#push(this.#recall(this.#byte()))
    },
    j() {
      this.#push(this.#recall(this.#length(4)))
    },
    // Tuples and lists are arrays.
    ')'() {
      this.#make([])
    },
    '\x85'() {
      this.#make([this.#pop()])
    },
    '\x86'() {
      this.#make(this.#popMany(2))
    },
    '\x87'() {
      this.#make(this.#popMany(3))
    },
    t() {
      this.#make(this.#popToMark())
    },
    ']'() {
      this.#make([])
    },
    l() {
      this.#make(this.#popToMark())
    },
    a() {
      const item = this.#pop()
      this.#list().push(item)
    },
    e() {
      const items = this.#popToMark()
      const list = this.#list()
      for (const item of items) list.push(item)
    },
    // Dicts and sets.
    '}'() {
      this.#make(new Map())
    },
    d() {
      this.#make(this.#setAll(new Map(), this.#popToMark()))
    },
    s() {
      const pair = this.#popMany(2)
      this.#setAll(this.#dict(), pair)
    },
    u() {
      const pairs = this.#popToMark()
      this.#setAll(this.#dict(), pairs)
    },
    '\x8f'() {
      this.#make(new Set())
    },
    '\x90'() {
      const items = this.#popToMark()
      const set = this.#top()
      if (set instanceof Inert) for (const item of items) this.#listOf(set).push(item)
      else if (set instanceof Set) for (const item of items) set.add(item)
      else this.#fail('expected a set to add to, got another value')
    },
    '\x91'() {
      this.#make(new Set(this.#popToMark()))
    },
    // Names, calls and objects: up to the host.
    c() {
      const module = this.#line()
      this.#make(this.#host.global(module, this.#line()))
    },
    '\x93'() {
      const [module, name] = this.#popMany(2)
      if (typeof module !== 'string' || typeof name !== 'string')
        this.#fail('expected a name as two strings, got others')
      this.#make(this.#host.global(module, name))
    },
    R() {
      this.#call(...(this.#popMany(2) as [unknown, unknown]))
    },
    '\x81'() {
      this.#call(...(this.#popMany(2) as [unknown, unknown]))
    },
    '\x92'() {
      const [callable, args, named] = this.#popMany(3)
      if (!(named instanceof Map)) this.#fail('expected named arguments as a dict, got another value')
      this.#call(callable, named.size > 0 && Array.isArray(args) ? [...args, named] : args)
    },
    b() {
      const state = this.#pop()
      this.#push(this.#host.build(this.#pop(), state))
    },
    Q() {
      this.#make(this.#host.persistent(this.#pop()))
    },
  }

  #call(callable: unknown, args: unknown): void {
    if (!Array.isArray(args)) this.#fail('expected arguments as a tuple, got another value')
    this.#make(this.#host.call(callable, args, steps => this.#spend(steps)))
  }

  #spend(steps: number): void {
    this.#steps += steps
    if (this.#steps > mostSteps) this.#fail(`expected at most ${mostSteps} steps of calls, got more`)
  }

  /** Pushes what is not merely a number or text. */
  #make(object: unknown): void {
    if (++this.#objects > mostObjects) this.#fail(`expected at most ${mostObjects} lists, dicts and calls, got more`)
    this.#push(object)
  }

  #push(value: unknown): void {
    this.#stack.push(value)
  }

  #top(): unknown {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail('expected a value on the stack, got none')
    return this.#stack[this.#stack.length - 1]
  }

  #pop(): unknown {
    const value = this.#top()
    this.#stack.length--
    return value
  }

  /** The last `n` values, in the order in which they were pushed. */
  #popMany(n: number): unknown[] {
    const values = Array.from({ length: n }, () => this.#pop())
    return values.reverse()
  }

  #popToMark(): unknown[] {
    const mark = this.#marks.pop()
    if (mark === undefined) this.#fail('expected a mark on the stack, got none')
    return this.#stack.splice(mark)
  }

  #list(): unknown[] {
    const list = this.#top()
    if (list instanceof Inert) return this.#listOf(list)
    if (!Array.isArray(list)) this.#fail('expected a list to append to, got another value')
    return list
  }

  #listOf(object: Inert): unknown[] {
    object.list ??= []
    return object.list
  }

  #dict(): Map<unknown, unknown> {
    const dict = this.#top()
    if (dict instanceof Inert) {
      dict.items ??= new Map()
      return dict.items
    }
    if (!(dict instanceof Map)) this.#fail('expected a dict to set an item of, got another value')
    return dict
  }

  #setAll(dict: Map<unknown, unknown>, pairs: readonly unknown[]): Map<unknown, unknown> {
    if (pairs.length % 2 !== 0) this.#fail('expected keys with values, got a key without')
    for (let i = 0; i < pairs.length; i += 2) dict.set(pairs[i], pairs[i + 1])
    return dict
  }

  #remember(index: number): void {
    if (this.#memo.size >= mostObjects && !this.#memo.has(index))
      this.#fail(`expected at most ${mostObjects} values to remember, got more`)
    this.#memo.set(index, this.#top())
  }

  #recall(index: number): unknown {
    if (!this.#memo.has(index)) this.#fail(`expected what was remembered as ${index}, got nothing`)
    return this.#memo.get(index)
  }

  #byte(): number {
    return this.#bytes[this.#take(1)]
  }

  /** Where the next `n` bytes begin; they are taken. */
  #take(n: number): number {
    const left = this.#bytes.length - this.#at
    if (n > left)
      throw new PickleCutShort(`${this.#where}: byte ${this.#at}: expected ${n} bytes, got ${left}: it is cut short`)
    this.#at += n
    return this.#at - n
  }

  #length(bytes: 4 | 8): number {
    const at = this.#take(bytes)
    const upper = bytes === 8 ? this.#view.getUint32(at + 4, true) : 0
    return upper * 2 ** 32 + this.#view.getUint32(at, true)
  }

  #slice(length: number): Uint8Array {
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  #text(length: number): string {
    const bytes = this.#slice(length)
    try {
      return utf8.decode(bytes)
    } catch {
      return this.#fail('expected text in UTF-8, got bytes that are not')
    }
  }

  /** Names of old protocols end with a line feed. */
  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at)
    if (end < 0 && this.#bytes.length - this.#at <= 1000)
      throw new PickleCutShort(`${this.#where}: byte ${this.#at}: expected a name on a line, got its beginning`)
    if (end < 0 || end - this.#at > 1000) this.#fail('expected a name on a line, got none')
    const text = latin1(this.#slice(end - this.#at))
    this.#at++
    return text
  }

  /** Little-endian in two's complement; a bigint where no number holds it. */
  #integer(length: number): number | bigint {
    if (length > 255) this.#fail(`expected an integer of at most 255 bytes, got one of ${length}`)
    const digits = Array.from(this.#slice(length), byte => byte.toString(16).padStart(2, '0')).reverse()
    const value = BigInt.asIntN(8 * length, BigInt(`0x0${digits.join('')}`))
    return Number.isSafeInteger(Number(value)) ? Number(value) : value
  }

  #fail(problem: string): never {
    throw new PickleError(`${this.#where}: byte ${this.#at}: ${problem}`)
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function latin1(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  return text
}
