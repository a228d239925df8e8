/**
 * Measures the site on this machine: the time until a first page is interactive, with a cold server and browser, its JavaScript
 * and its longest task; then the speed of training MDT-tiny in a page relative to Node on as many threads, and the longest task
 * of the page meanwhile. Run: npm run site:build, then npx tsx site/bench.ts. Needs Chromium.
 */

import { type Browser, chromium, type Page } from 'playwright-core'
import { median, table } from '../bench/table.ts'
import { main } from '../cli/main.ts'
import { ready } from '../core/index.ts'
import { openEmoji } from '../data/emoji.ts'
import { UserError } from '../io/user-error.ts'
import { executable, quietFlags } from '../tests/core/browser-host.ts'
import { built, serveSite } from '../tests/site/site-server.ts'
import { Trainer } from './playground/trainer.ts'

const steps = 12

interface FirstPage {
  /** Until the page is drawn and interactive. */
  readonly milliseconds: number
  /** Of JavaScript until the network is idle. */
  readonly bytes: number
  /** Milliseconds of the longest task; 0 if none is above 50. */
  readonly longest: number
}

/** Collects the page's tasks above 50 ms from its start on. */
function watchTasks(page: Page): Promise<unknown> {
  return page.addInitScript(() => {
    const seen: number[] = []
    Object.assign(globalThis, { longTasks: seen })
    new PerformanceObserver(list => void seen.push(...list.getEntries().map(entry => entry.duration))).observe({
      type: 'longtask',
      buffered: true,
    })
  })
}

function longestTask(page: Page): Promise<number> {
  return page.evaluate(() => Math.max(0, ...(globalThis as unknown as { longTasks: number[] }).longTasks))
}

async function firstPage(browser: Browser, address: string): Promise<FirstPage> {
  const page = await browser.newPage()
  await watchTasks(page)
  let bytes = 0
  page.on('response', async response => {
    if (response.url().endsWith('.js')) bytes += (await response.body()).length
  })
  const start = performance.now()
  await page.goto(`${address}/tour/`, { waitUntil: 'load' })
  // Interactive: the switch of colours works.
  await page.waitForFunction(async () => {
    const before = document.documentElement.className
    ;(document.querySelector('.VPSwitchAppearance') as HTMLElement | null)?.click()
    await new Promise(resolve => setTimeout(resolve))
    return document.documentElement.className !== before
  })
  const milliseconds = performance.now() - start
  await page.waitForLoadState('networkidle')
  const longest = await longestTask(page)
  await page.close()
  return { milliseconds, bytes, longest }
}

/** Images per second of each step in a page, and the longest task of its main thread meanwhile. */
async function inPage(page: Page): Promise<{ rates: number[]; longest: number }> {
  await page.waitForSelector('[data-test=start]')
  await page.click('[data-test=start]')
  const rates: number[] = []
  for (let step = 0; step < steps; ) {
    await page.waitForFunction(
      last => Number(document.querySelector('[data-test=progress]')?.getAttribute('data-step')) > last,
      step,
      { timeout: 120_000 },
    )
    const text = (await page.textContent('[data-test=progress]'))!
    step = Number(/Step (\d+)/.exec(text)![1])
    rates.push(Number(/([\d.]+) img\/s/.exec(text)![1]))
  }
  const longest = await longestTask(page)
  await page.click('[data-test=pause]')
  return { rates: rates.slice(2), longest }
}

const taskText = (longest: number) => (longest === 0 ? 'none above 50 ms' : `${longest.toFixed(0)} ms`)

async function inNode(): Promise<number[]> {
  const backend = await ready({ backend: 'wasm' })
  const trainer = new Trainer(await openEmoji('smileys', 16))
  const rates: number[] = []
  for (let step = 0; step < steps; step++) {
    const start = performance.now()
    await trainer.next()
    rates.push((1000 * trainer.settings.batch) / (performance.now() - start))
  }
  trainer.dispose()
  backend.dispose()
  return rates.slice(2)
}

await main(async () => {
  if (!built) throw new UserError('site: expected site/dist; npm run site:build makes it')
  if (executable === undefined) throw new UserError('site: expected Chromium, got none')
  const site = await serveSite({ isolated: true })
  const browser = await chromium.launch({ executablePath: executable, args: quietFlags })
  try {
    const first = await firstPage(browser, site.address)
    const page = await browser.newPage()
    await watchTasks(page)
    await page.goto(`${site.address}/playground/train.html`)
    const node = await inNode()
    const { rates, longest } = await inPage(page)
    console.log(
      table([
        ['', ''],
        ['first page interactive after', `${first.milliseconds.toFixed(0)} ms`],
        ['JavaScript of that page', `${(first.bytes / 1000).toFixed(0)} kB`],
        ['longest task of that page', taskText(first.longest)],
        ['MDT-tiny, batch 64, in Node', `${median(node).toFixed(1)} img/s`],
        ['in a page', `${median(rates).toFixed(1)} img/s, ${(median(rates) / median(node)).toFixed(2)} of Node`],
        ['longest task of the page meanwhile', taskText(longest)],
      ]),
    )
  } finally {
    await browser.close()
    site.close()
  }
})
