/**
 * The names of a network in a state dict: what training programs put in front of all of them, and what diffusers calls the
 * tensors of a DiT, become the official names. Used by recognise.ts and MaskDM's record.
 */

import type { Shape } from '../core/index.ts'
import { UserError } from '../io/index.ts'
import { type HostState, sinCos2d } from '../nn/index.ts'
import type { State } from './family.ts'

const anchor = 'x_embedder.proj.weight'

/**
 * The tensors of a DiT, MDT or MaskDiT, without the prefix that a program keeps it under (`model.` of Lightning, `ema_model.`)
 * and without other tensors of the file; averaged weights are preferred. A MaskDiT's own names begin with `model.`.
 * Other states stay as they are.
 */
export function networkNames(state: State): State {
  const prefixes = [...state.keys()].filter(name => name.endsWith(anchor)).map(name => name.slice(0, -anchor.length))
  if (prefixes.length === 0 || prefixes.includes('')) return state
  prefixes.sort((a, b) => Number(/ema/i.test(b)) - Number(/ema/i.test(a)) || a.length - b.length)
  const [prefix] = prefixes
  const own = [...state].filter(([name]) => name.startsWith(prefix))
  const network = new Map(own.map(([name, tensor]) => [name.slice(prefix.length), tensor]))
  if (!isMaskDiT(network)) return network
  return new Map(Array.from(network, ([name, tensor]) => [`model.${name}`, tensor]))
}

/** True if tensors under names that DiT shares with MaskDiT are of a MaskDiT. */
function isMaskDiT(network: State): boolean {
  const names = [...network.keys()]
  if (names.some(name => /^(sideblocks|en_inblocks)\./.test(name))) return false
  if (network.has('decoder_pos_embed')) return true
  const [D] = network.get(anchor)!.shape
  const [rows, columns] = network.get('y_embedder.embedding_table.weight')?.shape ?? [0, 0]
  // MaskDiT's labels are one-hot through a linear layer: (D, classes). DiT has a row of D for each.
  if (rows !== columns) return rows === D
  const [, C, P] = network.get(anchor)!.shape
  return network.get('final_layer.linear.weight')?.shape[0] !== 2 * C * P * P // without labels: DiT has variances too
}

/**
 * The tensors of a MaskDM. The official checkpoints are of the diffusion around it: names begin with `model.`, those of the
 * moving average with `ema_model.model.`, and tables of the schedule lie beside them. Null where there is no such network.
 */
export function maskDMNetwork(checkpoint: State): State | null {
  const positions = 'encoder.encoder_pos_embed'
  const prefix = ['', 'model.', 'ema_model.model.'].find(prefix => checkpoint.has(prefix + positions))
  if (prefix === undefined) return null
  const named = [...checkpoint].filter(([name]) => name.startsWith(prefix))
  return new Map(named.map(([name, value]) => [name.slice(prefix.length), value]))
}

/** True if these are the names of diffusers' DiTTransformer2DModel. */
export function isDiffusersDiT(state: State): boolean {
  return state.has('transformer_blocks.0.norm1.linear.weight') && state.has('pos_embed.proj.weight')
}

/**
 * The state of diffusers' DiTTransformer2DModel under the official names [diffusers, convert_dit_to_diffusers.py]. There every block
 * has a copy of the embedders; they must be the same. `config` is the text of its config.json, which has the size of the
 * pictures and the number of heads. Throws UserError.
 */
export function fromDiffusers(
  state: State,
  config: string | undefined,
  path: string,
): { state: State; heads?: number } {
  const { sample_size: size, num_attention_heads: heads } = parsed(config, path)
  const out = new Map<string, HostState>()
  const of = (name: string): HostState => {
    const tensor = state.get(name)
    if (tensor !== undefined) return tensor
    throw new UserError(`${path}: expected ${name} in a DiTTransformer2DModel of diffusers, got none`)
  }
  const move = (to: string, from: string) => {
    for (const kind of ['weight', 'bias']) out.set(`${to}.${kind}`, of(`${from}.${kind}`))
  }
  let depth = 0
  while (state.has(`transformer_blocks.${depth}.norm1.linear.weight`)) depth++
  const shared = (to: string, from: string) => {
    const copies = Array.from({ length: depth }, (_, i) => of(`transformer_blocks.${i}.norm1.emb.${from}`))
    out.set(to, same(copies, `${path}: ${from}`))
  }
  move('x_embedder.proj', 'pos_embed.proj')
  for (const kind of ['weight', 'bias']) {
    shared(`t_embedder.mlp.0.${kind}`, `timestep_embedder.linear_1.${kind}`)
    shared(`t_embedder.mlp.2.${kind}`, `timestep_embedder.linear_2.${kind}`)
  }
  shared('y_embedder.embedding_table.weight', 'class_embedder.embedding_table.weight')
  for (let i = 0; i < depth; i++) {
    const [to, from] = [`blocks.${i}`, `transformer_blocks.${i}`]
    for (const kind of ['weight', 'bias'])
      out.set(`${to}.attn.qkv.${kind}`, stacked(['q', 'k', 'v'].map(part => of(`${from}.attn1.to_${part}.${kind}`))))
    move(`${to}.attn.proj`, `${from}.attn1.to_out.0`)
    move(`${to}.mlp.fc1`, `${from}.ff.net.0.proj`)
    move(`${to}.mlp.fc2`, `${from}.ff.net.2`)
    move(`${to}.adaLN_modulation.1`, `${from}.norm1.linear`)
  }
  move('final_layer.adaLN_modulation.1', 'proj_out_1')
  move('final_layer.linear', 'proj_out_2')
  const [D, , P] = of('pos_embed.proj.weight').shape
  const side = size / P
  if (!Number.isSafeInteger(side) || side < 1 || side > 1024)
    throw new UserError(`${path}: config.json: expected a sample_size that is a multiple of ${P}, got ${size}`)
  const T = side * side
  out.set('pos_embed', state.get('pos_embed.pos_embed') ?? { shape: [1, T, D], data: sinCos2d(D, [side, side]) })
  return { state: out, heads }
}

function parsed(config: string | undefined, path: string): { sample_size: number; num_attention_heads?: number } {
  if (config === undefined)
    throw new UserError(`${path}: expected the config.json of diffusers beside it, which has sample_size, got none`)
  try {
    const { sample_size: size, num_attention_heads: heads } = JSON.parse(config)
    return {
      sample_size: Number(size ?? 32),
      num_attention_heads: Number.isSafeInteger(heads) && heads > 0 ? heads : undefined,
    }
  } catch {
    throw new UserError(`${path}: config.json: expected an object as JSON, got another text`)
  }
}

/** Tensors one below the other along the first axis. */
function stacked(parts: readonly HostState[]): HostState {
  const [rows, ...rest] = parts[0].shape
  const shape: Shape = [rows * parts.length, ...rest]
  return {
    shape,
    get data() {
      const all = parts.map(({ data }) => data)
      const out = new Float32Array(all.reduce((sum, { length }) => sum + length, 0))
      let at = 0
      for (const data of all) {
        out.set(data, at)
        at += data.length
      }
      return out
    },
  }
}

/** The first of several copies. Its data, when they are read, throw UserError if another differs. */
function same(copies: readonly HostState[], where: string): HostState {
  let checked = false
  return {
    shape: copies[0].shape,
    get data() {
      const { data } = copies[0]
      for (const [i, copy] of copies.entries()) {
        if (checked || i === 0) continue
        const other = copy.data
        if (other.length !== data.length || Array.prototype.some.call(data, (value, k) => !Object.is(value, other[k])))
          throw new UserError(`${where}: expected the same in every block, got another in block ${i}`)
      }
      checked = true
      return data
    },
  }
}
