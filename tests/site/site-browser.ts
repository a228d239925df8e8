/**
 * The built site in headless Chromium, opened before the tests of a file and closed after them. Used by site.test.ts and
 * site-training.test.ts. Needs Node.
 */

import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { test } from 'uvu'
import { executable, quietFlags, webGpuFlags } from '../core/browser-host.ts'
import { built, type SiteServer, serveSite } from './site-server.ts'

const ready = executable !== undefined && built

export const onSite = ready ? test : test.skip
export let browser: Browser
/** The browser context of all pages that `open` opens: they share what was fetched and compiled. */
let context: BrowserContext
/** With the headers that let a page share memory, and without. */
export let site: SiteServer
export let plain: SiteServer

test.before(async () => {
  if (!ready) return
  ;[site, plain] = await Promise.all([serveSite({ isolated: true }), serveSite({ isolated: false })])
  browser = await chromium.launch({
    executablePath: executable,
    args: [...quietFlags, ...webGpuFlags],
  })
  context = await browser.newContext()
})

test.after(async () => {
  await browser?.close()
  site?.close()
  plain?.close()
})

/** A page, and what it complains of. */
export interface Opened {
  readonly page: Page
  readonly said: string[]
}

/** Opens an empty page. */
export async function blank(): Promise<Opened> {
  const page = await context.newPage()
  const said: string[] = []
  page.on('console', message => message.type() !== 'debug' && said.push(message.text()))
  page.on('pageerror', error => said.push(error.message))
  return { page, said }
}

/** Opens a page of the site, and waits as `load` does. */
export async function open(path: string, server = site): Promise<Opened> {
  const opened = await blank()
  await load(opened.page, path, server)
  return opened
}

/** Loads a page of the site, and waits until its application runs and its interactive figures are there. */
export async function load(page: Page, path: string, server = site): Promise<void> {
  await page.goto(`${server.address}/${path}`)
  await page.waitForFunction(() => {
    const app = document.querySelector('#app')
    if (app === null) return document.readyState === 'complete' // a page of the source
    const figures = [...document.querySelectorAll('.widget')]
    return '__vue_app__' in app && figures.every(figure => figure.querySelector('.playground, [data-test=open-widget]'))
  })
  await page.evaluate(() => document.fonts.ready)
}

/** Goes to another page of the playground as a reader does, without loading the site anew. */
export async function visit(page: Page, name: string): Promise<void> {
  await page.click(`.VPSidebar a[href$="/playground/${name}.html"]`)
  await page.waitForSelector(`[data-test=${name}]`)
}

/** Waits until an element's text has `words` in it, and gives the text. */
export async function says(page: Page, what: 'status' | 'error', words: string): Promise<string> {
  const selector = `[data-test=${what}]`
  const has = ([selector, words]: string[]) => document.querySelector(selector)?.textContent?.includes(words)
  await page.waitForFunction(has, [selector, words], { timeout: 120_000 })
  return (await page.textContent(selector))!.trim()
}
