/**
 * A page in headless Chromium with a program of these tests: the bundle, a server that isolates pages under /isolated/
 * and no others, and the browser. Used by browser.test.ts, webgl2-browser.test.ts and webgpu/browser.test.ts. Needs Node.
 */

import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { type Browser, chromium, type Page } from 'playwright-core'
import { isolation } from '../../site/isolation.ts'

/** Where Chromium is; undefined where it is not installed. */
export const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

/** Flags that stop Chromium's background traffic in a test. */
export const quietFlags = [
  '--no-sandbox',
  '--disable-background-networking',
  '--disable-component-update',
  '--no-first-run',
]

/** Chromium's software adapter for WebGPU. */
export const webGpuFlags = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']

export interface BrowserHost {
  /** Opens a page with the program, under /isolated/ or /plain/, that tells `say` what it logs and throws. */
  open(folder: 'isolated' | 'plain', say: (text: string) => void): Promise<Page>
  close(): Promise<void>
}

/** Chromium's software driver for WebGL 2. */
export const webGl2Flags = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader']

export interface HostOptions {
  /** The page's program, beside this file. */
  readonly program?: string
  /** Packages that are left out of its script. */
  readonly external?: string[]
}

/** Starts Chromium and a server for the page. */
export async function openBrowser(flags: readonly string[], options: HostOptions = {}): Promise<BrowserHost> {
  const script = await bundle(options)
  const server = await serve(script)
  const browser: Browser = await chromium.launch({
    executablePath: executable,
    headless: true,
    args: [...quietFlags, ...flags],
  })
  return {
    async open(folder, say) {
      const page = await browser.newPage()
      page.on('console', message => say(message.text()))
      page.on('pageerror', error => say(error.message))
      const { port } = server.address() as AddressInfo
      await page.goto(`http://127.0.0.1:${port}/${folder}/`)
      return page
    },
    async close() {
      await browser.close()
      server.close()
    },
  }
}

/** The page's program as one script that leaves its exports behind, in `demask`. */
async function bundle({ program = 'browser-page.ts', external }: HostOptions): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(program, import.meta.url))],
    bundle: true,
    format: 'iife',
    globalName: 'demask',
    platform: 'browser',
    target: 'es2022',
    external,
    write: false,
  })
  return outputFiles[0].text
}

async function serve(script: string): Promise<Server> {
  const server = createServer(({ url }, response) => {
    const headers = url!.startsWith('/isolated/') ? isolation : {}
    const isScript = url!.endsWith('.js')
    response.writeHead(200, { 'Content-Type': `text/${isScript ? 'javascript' : 'html'}; charset=utf-8`, ...headers })
    response.end(isScript ? script : '<!doctype html><link rel="icon" href="data:,"><script src="program.js"></script>')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return server
}
