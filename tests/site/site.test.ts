/**
 * The site as people open it: every page in headless Chromium, links and anchors, accessibility, the playground's numbers
 * against Node's. Training in a page is site-training.test.ts. Skipped where there is no Chromium or where `npm run
 * site:build` was not run. Needs Node.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gradients, mul, sin, sum } from '../../core/index.ts'
import { tensor64, values } from '../near.ts'
import { browser, onSite, open, says, site, visit } from './site-browser.ts'
import { built, dist } from './site-server.ts'

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

/** Pages of the site, without most of the source and of the reference, which are all alike. */
const pages = built
  ? readdirSync(dist, { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.html') && !/^(assets|404)/.test(name))
      .filter(name => !/^(source|reference)\//.test(name) || /index\.html$|source\/core\/op\.ts/.test(name))
      .sort()
  : []

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
      'tour/2-multiplication.html',
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
  const cutOff = await page.$eval('.drawing', drawing => drawing.scrollWidth - drawing.clientWidth)
  assert.is(cutOff, 0, 'pixels of the drawing that are out of sight, on a screen 1280 wide')
  const [a, b] = [tensor64([1, 2, 3]).requireGrad(), tensor64([[0.5], [1]]).requireGrad()]
  const wanted = gradients(sum(mul(a, sin(b))), [a, b])
  for (const [i, name] of ['a', 'b'].entries()) {
    const shown = await page.getAttribute(`[data-node=${name}]`, 'data-gradient')
    assert.equal(shown!.split(' ').map(Number), values(wanted[i]))
  }
  for (const [text, error] of [
    ['sum(a *', /does not parse/],
    ['matmul(a, b)', /^matmul: expected equal inner sizes, got \[3\] and \[2, 1\]$/],
    ['frobnicate(a)', /^frobnicate: expected one of add,/],
    ['constructor(a)', /^constructor: expected one of add,/],
  ] as const) {
    await page.fill('[data-test=text]', text)
    assert.match((await page.textContent('[data-test=error]'))!, error)
  }
  await page.fill('[data-test=text]', 'a')
  await page.fill('[data-test=a]', 'null')
  assert.match((await page.textContent('[data-test=error]'))!, /^tensor: expected numbers/)
  await page.fill('[data-test=a]', '[1, 2, 3]')
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

onSite('a worker that cannot be loaded: the page says so, and the next page tries again', async () => {
  const page = await browser.newPage()
  const script = /assets\/host-.*\.js/
  await page.route(script, route => route.abort())
  await page.goto(`${site.address}/playground/noise.html`)
  const error = 'The worker that computes for this page could not be loaded. Load the page anew to try again.'
  assert.is(await says(page, 'error', 'worker'), error)
  await page.unroute(script)
  await visit(page, 'attention')
  await page.waitForSelector('[data-test=token]')
  await page.close()
})

onSite('reading takes little JavaScript, and no wasm', async () => {
  for (const path of ['index.html', 'tour/index.html', 'tour/2-multiplication.html']) {
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
