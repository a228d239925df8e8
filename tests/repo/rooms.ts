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
