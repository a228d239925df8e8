/**
 * The format of a file of weights by its first bytes, whatever its name is: `best.pth.tar` is what torch.save wrote, and
 * `.pt` may be a page that a failed download left. Needs Node.
 */

import { firstBytes } from './open-node.ts'

/** First bytes of a checkpoint of PyTorch before version 1.6: the pickle of a certain number. */
const legacyMagic = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]

export type WeightsFormat = 'safetensors' | 'zip' | 'legacy' | 'index' | 'other'

/** Other files that people take for weights, by what they begin with in latin1. */
const others: readonly (readonly [begin: string, what: string])[] = [
  ...['\x02', '\x03', '\x04', '\x05'].map(protocol => [`\x80${protocol}`, 'a pickle of another program'] as const),
  ['\x1f\x8b', "a file that gzip compressed; 'gunzip FILE' unpacks it"],
  ['\x28\xb5\x2f\xfd', "a file that zstd compressed; 'unzstd FILE' unpacks it"],
  ['7z\xbc\xaf', 'an archive of 7z; unpack it first'],
  ['Rar!', 'an archive of RAR; unpack it first'],
  ['\x89HDF\r\n', 'an HDF5 file, as Keras writes'],
  ['GGUF', 'a GGUF file, as llama.cpp reads'],
  ['\x93NUMPY', 'an array of NumPy (.npy)'],
  ['\x89PNG', 'a picture'],
  ['\xff\xd8\xff', 'a picture'],
]

/** The format, and for one that is not read here what it is in words. Throws as `openRegular`. */
export function weightsFormat(path: string): { readonly format: WeightsFormat; readonly what: string } {
  const start = firstBytes(path, 512)
  const text = Buffer.from(start).toString('latin1')
  if (text.startsWith('PK')) return { format: 'zip', what: 'a ZIP container' }
  if (legacyMagic.every((byte, i) => byte === start[i])) return { format: 'legacy', what: 'an older checkpoint' }
  const pointer = /^version https:\/\/git-lfs\.github\.com\/spec\/v1\n(?:.*\n)*?size (\d{1,15})/.exec(text)
  if (pointer !== null) {
    const what = `a Git LFS pointer to ${pointer[1]} bytes: 'git lfs pull' fetches the file itself`
    return { format: 'other', what }
  }
  const known = others.find(([begin]) => text.startsWith(begin))
  if (known !== undefined) return { format: 'other', what: known[1] }
  if (text.startsWith('ustar', 257))
    return { format: 'other', what: "a tar archive, as PyTorch before 0.1.10 wrote too; 'tar xf FILE' unpacks it" }
  if (/^\s*<(!doctype|html|\?xml)/i.test(text))
    return { format: 'other', what: 'a page of the web: the download failed' }
  if (text[7] === '\0' && text.slice(8).trimStart().startsWith('{'))
    return { format: 'safetensors', what: 'a safetensors file' }
  if (/^\s*\{/.test(text)) return { format: 'index', what: 'a file of JSON' }
  return { format: 'other', what: start.length === 0 ? 'an empty file' : 'another file' }
}
