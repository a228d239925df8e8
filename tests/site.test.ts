/**
 * The site as people open it: every page in headless Chromium, links and anchors, accessibility, the playground's numbers
 * against Node's, training in a page that goes on in Node. Skipped where there is no Chromium or where `npm run site:build`
 * was not run. Needs Node.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gradients, mul, sin, sum } from '../core/index.ts'
import { executable, quietFlags, webGpuFlags } from './browser-host.ts'
import { run } from './example.ts'
import { f64, values } from './helpers.ts'
import { built, dist, type SiteServer, serveSite } from './site-server.ts'

const onSite = executable === undefined || !built ? test.skip : test
const folder = mkdtempSync(join(tmpdir(), 'demask-site-'))
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

let browser: Browser
let site: SiteServer
let plain: SiteServer

test.before(async () => {
  if (executable === undefined || !built) return
  ;[site, plain] = await Promise.all([serveSite({ isolated: true }), serveSite({ isolated: false })])
  browser = await chromium.launch({
    executablePath: executable,
    args: [...quietFlags, ...webGpuFlags],
  })
})

test.after(async () => {
  await browser?.close()
  site?.close()
  plain?.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Pages of the site, without most of the source and of the reference, which are all alike. */
const pages = built
  ? readdirSync(dist, { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.html') && !/^(assets|404)/.test(name))
      .filter(name => !/^(source|reference)\//.test(name) || /index\.html$|source\/core\/op\.ts/.test(name))
      .sort()
  : []

/** Opens a page, and collects what it complains of. */
async function open(path: string, server = site): Promise<{ page: Page; said: string[] }> {
  const page = await browser.newPage()
  const said: string[] = []
  page.on('console', message => message.type() !== 'debug' && said.push(message.text()))
  page.on('pageerror', error => said.push(error.message))
  await page.goto(`${server.address}/${path}`, { waitUntil: 'networkidle' })
  return { page, said }
}

onSite('every page loads without a complaint', async () => {
  assert.ok(pages.length > 25, `${pages.length} pages`)
  for (const path of pages) {
    const { page, said } = await open(path)
    assert.equal(said, [], path)
    assert.ok(((await page.textContent('h1')) ?? '').trim() !== '', `${path} has a heading`)
    await page.close()
  }
})

onSite('every link leads to a page, and to a place on it', () => {
  const ids = new Map<string, Set<string>>()
  const idsOf = (path: string) => {
    let found = ids.get(path)
    if (found === undefined) {
      found = new Set([...readFileSync(join(dist, path), 'utf8').matchAll(/ id="([^"]+)"/g)].map(([, id]) => id))
      ids.set(path, found)
    }
    return found
  }
  for (const path of pages)
    for (const [, href] of readFileSync(join(dist, path), 'utf8').matchAll(/<a[^>]* href="([^"]+)"/g)) {
      if (/^[a-z]+:/.test(href)) continue
      const url = new URL(href.replaceAll('&amp;', '&'), `http://site/${path}`)
      const target = decodeURIComponent(url.pathname.slice(1)).replace(/(^|\/)$/, '$1index.html')
      assert.ok(existsSync(join(dist, target)), `${path}: ${href}`)
      if (url.hash !== '') assert.ok(idsOf(target).has(decodeURIComponent(url.hash.slice(1))), `${path}: ${href}`)
    }
})

for (const scheme of ['light', 'dark'] as const)
  onSite(`accessibility in the ${scheme} scheme, by axe`, async () => {
    for (const path of [
      'index.html',
      'tour/1-multiplication.html',
      ...pages.filter(name => name.startsWith('playground')),
    ]) {
      const { page } = await open(path)
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' })
      await page.waitForTimeout(300)
      await page.addScriptTag({ path: axe })
      const violations = await page.evaluate(async () => {
        const { axe } = globalThis as unknown as { axe: { run(context: object): Promise<{ violations: Violation[] }> } }
        // VitePress' search button shows its key but is not named by it.
        return (await axe.run({ exclude: ['.DocSearch-Button'] })).violations
      })
      assert.equal(
        violations.map(({ id, nodes }) => `${path}: ${id}: ${nodes[0].html.slice(0, 200)}`),
        [],
      )
      await page.close()
    }
  })

interface Violation {
  readonly id: string
  readonly nodes: readonly { readonly html: string }[]
}

onSite('the expression page: gradients are those of Node, errors are our own', async () => {
  const { page } = await open('playground/expression.html')
  await page.waitForSelector('[data-node=sum]')
  const [a, b] = [f64([1, 2, 3]).requireGrad(), f64([[0.5], [1]]).requireGrad()]
  const wanted = gradients(sum(mul(a, sin(b))), [a, b])
  for (const [i, name] of ['a', 'b'].entries()) {
    const shown = await page.getAttribute(`[data-node=${name}]`, 'data-gradient')
    assert.equal(shown!.split(' ').map(Number), values(wanted[i]))
  }
  for (const [text, error] of [
    ['sum(a *', /does not parse/],
    ['matmul(a, b)', /^matmul: wanted operands of rank 2 or more, got \[3\] and \[2, 1\]$/],
    ['frobnicate(a)', /^frobnicate: wanted one of add,/],
  ] as const) {
    await page.fill('[data-test=text]', text)
    assert.match((await page.textContent('[data-test=error]'))!, error)
  }
  await page.focus('[data-test=text]')
  await page.keyboard.press('Control+A')
  await page.keyboard.type('square(a)')
  assert.is(await page.getAttribute('[data-node=square]', 'data-gradient'), '1 1 1')
  await page.close()
})

onSite('the model that comes with the site denoises, attends and draws', async () => {
  const noise = await open('playground/noise.html')
  const mse = async () => Number(/noise: (\d+\.\d+)/.exec((await noise.page.textContent('[data-test=mse]'))!)![1])
  await noise.page.waitForSelector('[data-test=mse]')
  assert.ok((await mse()) < 0.3, `error of the noise at t = 400: ${await mse()}`)
  await noise.page.close()

  const attention = await open('playground/attention.html')
  await attention.page.waitForSelector('[data-test=token]')
  const shares = await attention.page.$$eval('[data-test=token]', tokens =>
    tokens.map(token => Number(/: ([\d.]+) %/.exec(token.getAttribute('aria-label')!)![1])),
  )
  assert.is(shares.length, 64)
  assert.ok(Math.abs(shares.reduce((x, y) => x + y) - 100) < 3.3, 'shares of attention add up')
  await attention.page.close()

  const guidance = await open('playground/guidance.html')
  await guidance.page.waitForFunction(
    () => (document.querySelector('[data-test=draw]') as HTMLButtonElement | null)?.disabled === false,
    undefined,
    { timeout: 120_000 },
  )
  assert.equal(guidance.said, [])
  await guidance.page.close()
})

/** Trains in an open page for so many steps, and gives the loss of each step that was seen. */
async function train(page: Page, steps: number): Promise<Map<number, number>> {
  await page.waitForSelector('[data-test=start]')
  await page.fill('[data-test=batch]', '8')
  await page.click('[data-test=start]')
  const losses = new Map<number, number>()
  for (let step = 0; step < steps; ) {
    await page.waitForFunction(
      last => Number(document.querySelector('[data-test=progress]')?.getAttribute('data-step')) > last,
      step,
      { timeout: 120_000 },
    )
    const [seen, loss] = await page.$eval('[data-test=progress]', p => [
      Number(p.getAttribute('data-step')),
      Number(p.getAttribute('data-loss')),
    ])
    step = seen
    losses.set(seen, loss)
  }
  await page.click('[data-test=pause]')
  await page.waitForSelector('[data-test=start]')
  return losses
}

onSite('training in a page: the loss falls, and the run goes on in Node', async () => {
  const { page, said } = await open('playground/train.html')
  const losses = [...(await train(page, 60)).values()]
  assert.ok(losses.at(-1)! < 0.75 * losses[0], `losses: ${losses}`)
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-test=export]')])
  const zip = join(folder, 'run.zip')
  await download.saveAs(zip)
  assert.equal(said, [])
  await page.close()

  const out = join(folder, 'run')
  unpack(zip, out)
  const before = metrics(out)
  const step = before.length
  const args = ['--preset', 'tiny', '--out', out, '--steps', String(step + 2), '--resume']
  const { code, stderr } = await run('train-mdt-s', args)
  assert.equal([code, stderr], [0, ''])
  const after = metrics(out)
  assert.is(after.length, step + 2)
  assert.ok(after.at(-1)!.full < 0.9, `loss after the resume: ${after.at(-1)!.full}`)
})

function metrics(out: string): { readonly step: number; readonly full: number }[] {
  return readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
}

/** A ZIP of stored files, as the page writes it. */
function unpack(zip: string, out: string): void {
  const bytes = readFileSync(zip)
  for (let at = 0; bytes.readUInt32LE(at) === 0x04034b50; ) {
    const [size, nameLength, extra] = [
      bytes.readUInt32LE(at + 18),
      bytes.readUInt16LE(at + 26),
      bytes.readUInt16LE(at + 28),
    ]
    const name = bytes.toString('utf8', at + 30, at + 30 + nameLength)
    const start = at + 30 + nameLength + extra
    at = start + size
    if (name.endsWith('/')) continue
    const path = join(out, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, bytes.subarray(start, at))
  }
}

/** Waits until an element's text has `words` in it, and gives the text. */
async function says(page: Page, what: 'status' | 'error', words: string): Promise<string> {
  const selector = `[data-test=${what}]`
  const has = ([selector, words]: string[]) => document.querySelector(selector)?.textContent?.includes(words)
  await page.waitForFunction(has, [selector, words], { timeout: 120_000 })
  return (await page.textContent(selector))!.trim()
}

async function openOnGpu(): ReturnType<typeof open> {
  const opened = await open('playground/train.html')
  await opened.page.selectOption('[data-test=backend]', 'gpu')
  await says(opened.page, 'status', 'gpu (webgpu)')
  return opened
}

onSite('training on WebGPU: the same losses', async () => {
  const { page, said } = await openOnGpu()
  const onGpu = await train(page, 8)
  assert.equal(
    said.filter(line => !/^gpu: /.test(line)),
    [],
  )
  await page.close()
  const { page: other } = await open('playground/train.html')
  const onWasm = await train(other, 8)
  await other.close()
  const both = [...onGpu.keys()].filter(step => onWasm.has(step))
  assert.ok(both.length > 0, 'some steps were seen on both')
  for (const step of both) assert.ok(Math.abs(onGpu.get(step)! / onWasm.get(step)! - 1) < 1e-3, `step ${step}`)
})

onSite('without shared memory the page says so, and trains on one thread', async () => {
  const { page } = await open('playground/train.html', plain)
  await page.waitForSelector('[data-test=start]')
  assert.match((await page.textContent('[data-test=status]'))!, /1 thread\. One thread: the server of this page/)
  const losses = await train(page, 2)
  assert.ok([...losses.values()].every(loss => Number.isFinite(loss)))
  await page.close()
})

onSite('full memory and a wrong batch say so, and the page trains on', async () => {
  const { page } = await open('playground/train.html')
  await page.waitForSelector('[data-test=start]')
  for (const [batch, error] of [
    ['0', "batch: wanted a whole number from 1, got '0'"],
    ['10000', 'wasm: out of memory: wanted'],
  ]) {
    await page.fill('[data-test=batch]', batch)
    await page.click('[data-test=start]')
    assert.ok((await says(page, 'error', error)).startsWith(error))
  }
  assert.ok([...(await train(page, 2)).values()].every(Number.isFinite))
  await page.close()
})

onSite('a device that is lost: the page says so, and trains on without it', async () => {
  const { page } = await openOnGpu()
  await page.fill('[data-test=batch]', '1')
  await page.click('[data-test=start]')
  await page.waitForSelector('[data-test=progress]', { timeout: 120_000 })
  await (await browser.newBrowserCDPSession()).send('Browser.crashGpuProcess')
  assert.match(await says(page, 'error', 'lost'), /^gpu: the device .* was lost .*Train begins anew\)$/)
  await says(page, 'status', 'wasm (')
  assert.ok([...(await train(page, 2)).values()].every(Number.isFinite))
  await page.close()
})

onSite('reading takes little JavaScript, and no wasm', async () => {
  for (const path of ['index.html', 'tour/index.html', 'tour/1-multiplication.html']) {
    const page = await browser.newPage()
    let bytes = 0
    page.on('response', async response => {
      if (response.url().endsWith('.js')) bytes += (await response.body()).length
    })
    await page.goto(`${site.address}/${path}`, { waitUntil: 'networkidle' })
    assert.ok(bytes > 0 && bytes <= 300_000, `${path}: ${bytes} bytes of JavaScript`)
    await page.close()
  }
})

test.run()
