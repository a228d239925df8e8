/**
 * Measures the site on this machine: the time until a first page is interactive, with a cold server and browser, its JavaScript,
 * and the longest task while pages load; then the speed of training MDT-tiny in a page relative to Node on as many threads, and
 * the longest task of the page meanwhile. A task's processor time does not count the time in which other programs or the
 * training's own threads run. Run: npm run site:build, then npx tsx site/bench.ts. Needs Chromium.
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

/** Name of an event by which a page's main thread is found in a trace. */
const mark = 'end of the measurement'

/** Pages whose tasks at load are measured: a short one, a long chapter, the largest table. */
const loaded = ['tour/', 'tour/1-noise-and-back.html', 'ops.html']

interface FirstPage {
  /** Until the page is drawn and interactive. */
  readonly milliseconds: number
  /** Of JavaScript until the network is idle. */
  readonly bytes: number
}

/** The longest task of a page's main thread, in milliseconds: from start to end, and of processor time. */
interface Longest {
  readonly wall: number
  readonly processor: number
}

/** An event of Chromium's trace; times in microseconds. */
interface TraceEvent {
  readonly name: string
  readonly pid: number
  readonly tid: number
  readonly dur?: number
  readonly tdur?: number
}

/** Records the tasks of a page until the returned function is called; it returns the longest. */
async function watchTasks(browser: Browser, page: Page): Promise<() => Promise<Longest>> {
  const session = await browser.newBrowserCDPSession()
  const events: TraceEvent[] = []
  session.on('Tracing.dataCollected', ({ value }) => void events.push(...(value as unknown as TraceEvent[])))
  await session.send('Tracing.start', {
    transferMode: 'ReportEvents',
    traceConfig: { includedCategories: ['toplevel', 'blink.user_timing'] },
  })
  return async () => {
    await page.evaluate(mark => void performance.mark(mark), mark)
    const complete = new Promise(resolve => session.once('Tracing.tracingComplete', resolve))
    await session.send('Tracing.end')
    await complete
    await session.detach()
    const threadOf = ({ pid, tid }: TraceEvent) => `${pid} ${tid}`
    const marked = events.find(({ name }) => name === mark)
    if (marked === undefined) throw new Error('site: expected the mark of the page in the trace, got none')
    const thread = threadOf(marked)
    const tasks = events.filter(event => /RunTask$/.test(event.name) && threadOf(event) === thread)
    const longest = (time: (event: TraceEvent) => number) =>
      tasks.reduce((most, e) => Math.max(most, time(e)), 0) / 1000
    return { wall: longest(({ dur = 0 }) => dur), processor: longest(({ tdur = 0 }) => tdur) }
  }
}

async function firstPage(browser: Browser, address: string): Promise<FirstPage> {
  const page = await browser.newPage()
  const scripts: Promise<Buffer>[] = []
  page.on('response', response => void (response.url().endsWith('.js') && scripts.push(response.body())))
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
  const bytes = (await Promise.all(scripts)).reduce((sum, { length }) => sum + length, 0)
  await page.close()
  return { milliseconds, bytes }
}

/** The longest task while a page loads with an empty cache, without input. */
async function longestAtLoad(browser: Browser, address: string): Promise<Longest> {
  const page = await browser.newPage()
  const longestTask = await watchTasks(browser, page)
  await page.goto(address, { waitUntil: 'networkidle' })
  const longest = await longestTask()
  await page.close()
  return longest
}

/** Images per second of each step in a page, and the longest task of its main thread meanwhile. */
async function inPage(browser: Browser, page: Page): Promise<{ rates: number[]; longest: Longest }> {
  await page.waitForSelector('[data-test=start]')
  const longestTask = await watchTasks(browser, page)
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
  const longest = await longestTask()
  await page.click('[data-test=pause]')
  return { rates: rates.slice(2), longest }
}

const taskText = ({ wall, processor }: Longest) => `${wall.toFixed(0)} ms, ${processor.toFixed(0)} ms of processor time`

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
    const loads: [string, Longest][] = []
    for (const path of loaded) loads.push([path, await longestAtLoad(browser, `${site.address}/${path}`)])
    const page = await browser.newPage()
    await page.goto(`${site.address}/playground/train.html`)
    const node = await inNode()
    const { rates, longest } = await inPage(browser, page)
    console.log(
      table([
        ['', ''],
        ['first page interactive after', `${first.milliseconds.toFixed(0)} ms`],
        ['JavaScript of that page', `${(first.bytes / 1000).toFixed(0)} kB`],
        ...loads.map(([path, longest]) => [`longest task while /${path} loads`, taskText(longest)]),
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
