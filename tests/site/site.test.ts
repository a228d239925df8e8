/**
 * The site as people open it: every page in headless Chromium, links and anchors, accessibility, the playground's numbers
 * against Node's. Training in a page is site-training.test.ts. Skipped where there is no Chromium or where `npm run
 * site:build` was not run. Needs Node.
 */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gradients, mul, sin, sum } from '../../core/index.ts'
import { linearBetas, scheduleOf } from '../../diffusion/betas.ts'
import { root } from '../../site/regions.ts'
import { tensor64, values } from '../near.ts'
import { browser, onSite, open, says, site, visit } from './site-browser.ts'
import { built, dist } from './site-server.ts'

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

/** Pages of the site, without most of the source and of the reference, which are all alike. */
const pages = built
  ? readdirSync(dist, { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.html') && !/^(assets|404)/.test(name))
      .filter(name => !/^(source|reference)\//.test(name) || /\/(index|matmul|tensor|op\.ts)\.html$/.test(name))
      .sort()
  : []

/**
 * Code, tables, formulas and pictures of the open page that reach past their box or the window; words of tables that are cut
 * in two; and punctuation that begins a line, after a formula.
 */
function clipped(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const blocks = 'pre, table, img, svg, canvas, .katex-display, .vp-doc p'
    const found = [...document.querySelectorAll(blocks)].filter(element => {
      const { width, right } = element.getBoundingClientRect()
      if (width === 0 || element.closest('.drawing, .katex, nav, header') !== null) return false
      return right > innerWidth + 1 || (element.tagName !== 'svg' && element.scrollWidth > element.clientWidth + 1)
    })
    if (document.documentElement.scrollWidth > innerWidth) found.push(document.documentElement)
    const range = document.createRange()
    for (const cell of document.querySelectorAll('.vp-doc :is(td, th)')) {
      const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT)
      for (let text = texts.nextNode(); text !== null; text = texts.nextNode())
        for (const { 0: word, index } of text.textContent!.matchAll(/\w+/g)) {
          range.setStart(text, index)
          range.setEnd(text, index + word.length)
          if (new Set([...range.getClientRects()].map(({ top }) => top)).size > 1) found.push(text.parentElement!)
        }
    }
    for (const formula of document.querySelectorAll('.vp-doc :not(.katex-display) > .katex')) {
      const after = formula.nextSibling ?? formula.parentElement!.nextSibling
      if (after?.nodeType !== Node.TEXT_NODE || !/^[.,:;!?)]/.test(after.textContent!)) continue
      range.setStart(after, 0)
      range.setEnd(after, 1)
      if (range.getBoundingClientRect().left < formula.getBoundingClientRect().right - 3) found.push(formula)
    }
    return found.map(element => `${element.tagName} ${element.textContent!.trim().slice(0, 80)}`)
  })
}

interface Violation {
  readonly id: string
  readonly nodes: readonly { readonly html: string }[]
}

/** Violations that axe finds on the open page: of all rules in light, of those about colours in dark. */
async function violations(page: Page, path: string): Promise<string[]> {
  await page.addScriptTag({ path: axe })
  await page.addStyleTag({ content: '* { transition: none !important }' })
  const found: string[] = []
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    if (path.startsWith('source/'))
      await page.evaluate(dark => document.documentElement.classList.toggle('dark', dark), colorScheme === 'dark')
    await page.waitForFunction(
      dark => document.documentElement.classList.contains('dark') === dark,
      colorScheme === 'dark',
    )
    const rules = colorScheme === 'dark' ? ['color-contrast', 'link-in-text-block'] : null
    const violated = await page.evaluate(async rules => {
      const { axe } = globalThis as unknown as {
        axe: { run(context: object, options: object): Promise<{ violations: Violation[] }> }
      }
      const options = { resultTypes: ['violations'], ...(rules !== null && { runOnly: rules }) }
      // VitePress' search button shows its key but is not named by it.
      return (await axe.run({ exclude: ['.DocSearch-Button'] }, options)).violations
    }, rules)
    found.push(...violated.map(({ id, nodes }) => `${path}, ${colorScheme}: ${id}: ${nodes[0].html.slice(0, 200)}`))
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null })
  return found
}

interface Visit {
  readonly path: string
  readonly heading: string
  readonly said: readonly string[]
  readonly clipped: readonly string[]
  readonly violations: readonly string[]
}

let visited: Promise<Visit[]> | undefined

/** Visits all pages once for the tests that follow, two at a time. */
function visits(): Promise<Visit[]> {
  visited ??= visitAll()
  return visited
}

async function visitAll(): Promise<Visit[]> {
  const left = [...pages]
  const found: Visit[] = []
  const visitor = async () => {
    for (let path = left.shift(); path !== undefined; path = left.shift()) found.push(await visitOf(path))
  }
  await Promise.all([visitor(), visitor()])
  return found
}

async function visitOf(path: string): Promise<Visit> {
  const { page, said } = await open(path)
  const cut: string[] = []
  for (const width of [390, 1280]) {
    await page.setViewportSize({ width, height: 800 })
    cut.push(...(await clipped(page)).map(what => `${path} at ${width}: ${what}`))
  }
  const heading = ((await page.textContent('h1')) ?? '').trim()
  const violated = await violations(page, path)
  await page.close()
  return { path, heading, said: said.map(line => `${path}: ${line}`), clipped: cut, violations: violated }
}

onSite('every page loads without a complaint', async () => {
  assert.ok(pages.length > 25, `${pages.length} pages`)
  const all = await visits()
  assert.is(all.length, pages.length)
  assert.equal(
    all.flatMap(({ said }) => said),
    [],
  )
  for (const { path, heading } of all) assert.ok(heading !== '', `${path} has a heading`)
})

onSite('nothing is cut off at 1280 and 390 pixels', async () => {
  assert.equal(
    (await visits()).flatMap(({ clipped }) => clipped),
    [],
  )
})

onSite('accessibility in light and dark, by axe', async () => {
  assert.equal(
    (await visits()).flatMap(({ violations }) => violations),
    [],
  )
})

onSite('the pages of the source have its text', async () => {
  const { sources } = await import('../../site/source.ts')
  const plain = (html: string) =>
    html.replace(/<[^>]*>/g, '').replace(/&(lt|gt|amp);/g, (_, name: string) => ({ lt: '<', gt: '>', amp: '&' })[name]!)
  for (const path of sources()) {
    const html = readFileSync(join(dist, 'source', `${path}.html`), 'utf8')
    const code = html.slice(html.indexOf('<code>') + 6, html.lastIndexOf('</code>'))
    assert.is(plain(code), `${readFileSync(join(root, path), 'utf8').trimEnd()}\n`, path)
  }
})

onSite('the site stays small', () => {
  const files = readdirSync(dist, { recursive: true, encoding: 'utf8' }).map(name => statSync(join(dist, name)))
  const bytes = files.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0)
  assert.ok(bytes <= 60e6, `${bytes} bytes`)
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
  await page.focus('[data-test=first-step]')
  await page.keyboard.press('Enter')
  assert.is(await page.getAttribute('[data-node=a]', 'data-gradient'), '', 'nothing has reached a')
  assert.is(await page.getAttribute('[data-node=sum]', 'data-gradient'), '1')
  await page.focus('[data-test=next-step]')
  for (let step = 0; step < 3; step++) await page.keyboard.press('Enter')
  assert.match((await page.textContent('[data-test=story]'))!, /^All 3 steps of backward are done/)
  assert.equal((await page.getAttribute('[data-node=a]', 'data-gradient'))!.split(' ').map(Number), values(wanted[0]))
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

onSite('adaLN-Zero with other numbers: formulas and tape agree, errors name the field', async () => {
  const { page } = await open('playground/adaln.html')
  const row = (name: string) =>
    page.$$eval(`[data-row="${name}"] td`, cells => cells.map(cell => Number(cell.textContent!.replace('−', '-'))))
  assert.equal(await row('gradients alpha'), [9.75, 2, 0.984])
  await page.focus('[data-test=adaln-alpha]')
  await page.keyboard.press('Control+A')
  await page.keyboard.type('0, 0, 0')
  assert.equal(await row('gradients gamma'), [0, 0, 0], 'a closed gate sends nothing into its branch')
  assert.ok(
    (await row('gradients alpha')).every(g => g !== 0),
    'but learns itself',
  )
  assert.ok(Number(await page.textContent('[data-test=difference]')) < 1e-12)
  await page.fill('[data-test=adaln-token1]', '2, 2, 2')
  assert.match((await page.textContent('[data-test=error]'))!, /^token1: expected numbers that are not all equal/)
  await page.click('[data-test=adaln-reset]')
  assert.equal(await row('gradients alpha'), [9.75, 2, 0.984])
  await page.close()
})

onSite('the model that comes with the site denoises, attends and draws', async () => {
  const noise = await open('playground/noise.html')
  const errorOf = async (name: string) => Number(await noise.page.textContent(`[data-test=${name}-error]`))
  await noise.page.waitForSelector('[data-test=errors]')
  assert.ok((await errorOf('noise')) < 0.3, `error of the noise at t = 400: ${await errorOf('noise')}`)
  await noise.page.focus('[data-test=t]')
  await noise.page.keyboard.press('End') // t = 999
  const { alphaBar } = scheduleOf(linearBetas(1000))
  const wanted = (1 - alphaBar[999]) / alphaBar[999]
  await noise.page.waitForFunction(
    text => document.querySelector('[data-test=why]')?.textContent?.includes(text),
    `(1 − ᾱ)/ᾱ = ${wanted.toFixed(0)}`,
  )
  const factor = (await errorOf('picture')) / (await errorOf('noise'))
  assert.ok(
    Math.abs(factor / wanted - 1) < 0.01,
    `the error of x̂₀ is ${factor} times that of the noise, wanted ${wanted}`,
  )
  assert.ok((await errorOf('clipped')) <= 4, 'clipped to the range of pixels')
  await noise.page.close()

  const attention = await open('playground/attention.html')
  await attention.page.waitForSelector('[data-test=token]')
  const shares = await attention.page.$$eval('[data-test=token]', tokens =>
    tokens.map(token => Number(/: ([\d.]+) %/.exec(token.getAttribute('aria-label')!)![1])),
  )
  assert.is(shares.length, 64)
  assert.ok(Math.abs(shares.reduce((x, y) => x + y) - 100) < 3.3, 'shares of attention add up')
  await attention.page.focus('[data-test=token][aria-pressed=true]')
  const before = await attention.page.textContent('[data-test=strongest]')
  assert.match(before!, /Token 26 .* attends most to token 29 /, 'its mirror image, as the page says')
  await attention.page.keyboard.press('ArrowRight')
  const chosen = () =>
    attention.page.$$eval('[data-test=token]', all => all.findIndex(token => token.ariaPressed === 'true'))
  const token = Number(/Token (\d+)/.exec(before!)![1])
  assert.is(await chosen(), token + 1)
  assert.is(await attention.page.evaluate(() => document.activeElement?.getAttribute('aria-pressed')), 'true')
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

onSite('masks are painted by dragging and by keyboard', async () => {
  const { page } = await open('playground/masks.html')
  await page.waitForSelector('[data-test=mask-token]')
  const hidden = () =>
    page.$$eval('[data-test=mask-token]', all => all.map(token => token.getAttribute('aria-pressed') === 'true'))
  const before = await hidden()
  const box = (await page.locator('.grid').boundingBox())!
  const at = (column: number) => [box.x + (34 * column + 17), box.y + 17] as const
  await page.mouse.move(...at(0))
  await page.mouse.down()
  await page.mouse.move(...at(3), { steps: 12 })
  await page.mouse.up()
  assert.equal((await hidden()).slice(0, 5), [...Array(4).fill(!before[0]), before[4]])
  await page.focus('[data-test=mask-token][tabindex="0"]')
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Space')
  const row = (await hidden()).slice(8, 10)
  assert.is(row[0], !before[8])
  await page.keyboard.press('Shift+ArrowRight')
  assert.is((await hidden())[9], row[0])
  await page.close()
})

onSite('a figure in a chapter loads its code when it is opened, by keyboard too', async () => {
  const page = await browser.newPage()
  const scripts: string[] = []
  page.on('response', response => void (/\.js$/.test(response.url()) && scripts.push(response.url())))
  await page.goto(`${site.address}/papers/maskdm.html`, { waitUntil: 'networkidle' })
  assert.ok(!scripts.some(url => /\/Masks\./.test(url)), scripts.join(' '))
  await page.focus('[data-widget=masks] [data-test=open-widget]')
  await page.keyboard.press('Enter')
  await page.waitForSelector('[data-test=mask-token]')
  assert.ok(scripts.some(url => /\/Masks\./.test(url)))
  assert.is(await page.evaluate(() => document.activeElement?.getAttribute('data-widget')), 'masks')
  await page.close()
})

onSite('a block, value by value: by keyboard and touch, with the numbers of Node', async () => {
  const page = await browser.newPage({ hasTouch: true, viewport: { width: 390, height: 800 } })
  await page.goto(`${site.address}/playground/block.html`)
  await page.focus('[data-test=value][aria-pressed=true]')
  const chosen = () => page.getAttribute('[data-test=value][aria-pressed=true]', 'data-value')
  assert.is(await chosen(), 'modulated1')
  for (const [key, value] of [
    ['ArrowUp', 'normed1'],
    ['ArrowRight', 'beta1'],
    ['ArrowUp', 'c'],
    ['ArrowLeft', 'x'],
  ]) {
    await page.keyboard.press(key)
    assert.is(await chosen(), value, key)
    assert.is(await page.evaluate(() => document.activeElement?.getAttribute('data-value')), value)
  }
  await page.tap('[data-value=logits]')
  const panel = page.locator('[data-test=value-panel]')
  assert.match((await panel.textContent())!, /s, shape \(4, 64, 64\).*Value, .* to .*Gradient ∂L\/∂s, .* to /)
  await page.waitForFunction(() => {
    const { top } = document.querySelector('[data-test=value-panel]')!.getBoundingClientRect()
    return top < innerHeight / 2
  })
  await page.tap('[data-test=next-value]')
  assert.is(await chosen(), 'weights')

  const { insideBlock } = await import('../../site/playground/looking.ts')
  const { trained } = await import('../../site/figures/trained.ts')
  const { model, data, backend } = await trained()
  const { loss, values } = await insideBlock(model, data, { picture: 3, t: 400, seed: 0 }, 3)
  backend.dispose()
  const shown = Number(await page.textContent('[data-test=block-loss]'))
  assert.ok(Math.abs(shown - loss) < 1e-4, `loss ${shown}, in Node ${loss}`)
  const few = await panel.locator('.few code').allTextContents()
  for (const [i, numbers] of [values.weights.values, values.weights.gradient].entries()) {
    const row = Number(/\d+/.exec((await panel.locator('.few span').allTextContents())[i])![0])
    const wanted = Array.from(numbers.subarray(64 * row, 64 * row + 6))
    const got = few[i].replaceAll('−', '-').split(/\s+/).slice(0, 6).map(Number)
    const largest = Math.max(...wanted.map(Math.abs))
    assert.ok(
      wanted.every((v, k) => Math.abs(v - got[k]) <= 0.06 * Math.abs(v) + 1e-3 * largest),
      `${got}, in Node ${wanted}`,
    )
  }
  await page.close()
})

onSite('the speed of a product in this browser, or why it cannot be measured', async () => {
  const { page } = await open('playground/product.html')
  await page.waitForSelector('[data-test=measure]:not(:disabled)')
  await page.click('[data-test=measure]')
  const { ways } = await import('../../bench/product.ts')
  await page.waitForFunction(n => document.querySelectorAll('[data-test=here]').length === n, ways.length, {
    timeout: 120_000,
  })
  const here = await page.locator('[data-test=here]').allTextContents()
  for (const text of here) assert.match(text, /^ *[\d.]+ GFLOP\/s here|^ *not here: \w+: expected/)
  assert.match(here[1], /GFLOP\/s here/)
  await page.close()
})

onSite('the table of ops is sorted and searched', async () => {
  const { page } = await open('ops.html')
  const shown = () =>
    page.$$eval('.sortable tbody tr:not([hidden])', all => all.map(row => row.children[0].textContent))
  await page.fill('[data-test=search]', 'softmax')
  const found = await shown()
  assert.ok(found.includes('softmax') && !found.includes('matmul'), found.join(' '))
  await page.fill('[data-test=search]', '')
  await page.focus('.sortable th button')
  await page.keyboard.press('Enter')
  const sorted = await shown()
  assert.equal(
    sorted,
    [...sorted].sort((a, b) => a!.localeCompare(b!, 'en', { numeric: true })),
  )
  assert.ok((await page.$$('.sortable .katex')).length > 20, 'formulas are rendered')
  await page.close()
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
  const chapters = pages.filter(name => /^tour\/(1|6)-/.test(name)) // 6 is the longest
  const others = [
    'index',
    'tour/index',
    'papers/maskdm',
    'playground/index',
    'ops',
    'errors',
    'reference/core/ops/matmul',
  ]
  for (const path of [...chapters, ...others.map(name => `${name}.html`)]) {
    const page = await browser.newPage()
    const scripts: Promise<Buffer>[] = []
    page.on('response', response => void (response.url().endsWith('.js') && scripts.push(response.body())))
    await page.goto(`${site.address}/${path}`, { waitUntil: 'networkidle' })
    const bytes = (await Promise.all(scripts)).reduce((sum, { length }) => sum + length, 0)
    assert.ok(bytes > 0 && bytes <= 300_000, `${path}: ${bytes} bytes of JavaScript`)
    await page.close()
  }
})

test.run()
