/**
 * The site on this machine: how soon a first page answers, from a server and a browser that are cold; how much JavaScript that
 * takes; and training MDT-tiny in a page against Node, both on as many threads, with the longest task that held up the page
 * meanwhile. Run: npm run site:build, then npx tsx site/bench.ts. Needs Chromium.
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

/** Milliseconds until the page has drawn and answers, and bytes of JavaScript until then. */
async function firstPage(browser: Browser, address: string): Promise<{ milliseconds: number; bytes: number }> {
  const page = await browser.newPage()
  let bytes = 0
  page.on('response', async response => {
    if (response.url().endsWith('.js')) bytes += (await response.body()).length
  })
  const start = performance.now()
  await page.goto(`${address}/tour/2-multiplication.html`, { waitUntil: 'load' })
  // Interactive: the switch of colours does what it says, a moment after the click.
  await page.waitForFunction(async () => {
    const before = document.documentElement.className
    ;(document.querySelector('.VPSwitchAppearance') as HTMLElement | null)?.click()
    await new Promise(resolve => setTimeout(resolve))
    return document.documentElement.className !== before
  })
  const milliseconds = performance.now() - start
  await page.waitForLoadState('networkidle')
  await page.close()
  return { milliseconds, bytes }
}

/** Images per second of each step in a page, and the longest task of its main thread meanwhile. */
async function inPage(page: Page): Promise<{ rates: number[]; longest: number }> {
  await page.waitForSelector('[data-test=start]')
  await page.evaluate(() => {
    const seen: number[] = []
    new PerformanceObserver(list => seen.push(...list.getEntries().map(entry => entry.duration))).observe({
      type: 'longtask',
    })
    Object.assign(globalThis, { longTasks: seen })
  })
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
  const longest = await page.evaluate(() =>
    Math.max(0, ...(globalThis as unknown as { longTasks: number[] }).longTasks),
  )
  await page.click('[data-test=pause]')
  return { rates: rates.slice(2), longest }
}

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
    await page.goto(`${site.address}/playground/train.html`)
    const node = await inNode()
    const { rates, longest } = await inPage(page)
    console.log(
      table([
        ['', ''],
        ['first page answers after', `${first.milliseconds.toFixed(0)} ms`],
        ['JavaScript of that page', `${(first.bytes / 1000).toFixed(0)} kB`],
        ['MDT-tiny, batch 64, in Node', `${median(node).toFixed(1)} img/s`],
        ['in a page', `${median(rates).toFixed(1)} img/s, ${(median(rates) / median(node)).toFixed(2)} of Node`],
        ['longest task of the page meanwhile', longest === 0 ? 'none above 50 ms' : `${longest.toFixed(0)} ms`],
      ]),
    )
  } finally {
    await browser.close()
    site.close()
  }
})
