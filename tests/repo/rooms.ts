/** The folders of the source, each of which imports only from itself and those before it. */
export const rooms = [
  'core',
  'io',
  'nn',
  'distributed',
  'data',
  'evaluation',
  'diffusion',
  'models',
  'training',
  'cli',
  'examples',
] as const

/** The specifier by which the package exports a room; null for rooms of programs. */
export function specifierOf(room: (typeof rooms)[number]): string | null {
  if (room === 'cli' || room === 'examples') return null
  return room === 'core' ? 'demask' : `demask/${room}`
}

/** The specifiers of all rooms that the package exports. */
export const specifiers = rooms.flatMap(room => specifierOf(room) ?? [])
