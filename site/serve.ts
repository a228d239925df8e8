/**
 * Serves the built site on this machine, with the headers that let a page share memory between threads. Any static server
 * does; without those headers the playground computes on one thread. Run: npm run site (from the root). Needs Node.
 */

import { preview } from 'vite'
import { isolation } from './isolation.ts'

const port = Number(process.env.PORT ?? 4173)
const server = await preview({
  configFile: false,
  root: import.meta.dirname,
  build: { outDir: 'dist' },
  preview: { port, headers: isolation },
})
server.printUrls()
