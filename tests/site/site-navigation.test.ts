/**
 * Ways through the site, in headless Chromium: the sidebar, which is our own (site/components/SidebarGroups.vue), the menu of a
 * phone, and the search. Skipped as site.test.ts is. Needs Node.
 */

import type { Page } from 'playwright-core'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { browser, onSite, open, site } from './site-browser.ts'

const active = (page: Page) => page.$$eval('.VPSidebar [aria-current=page]', all => all.map(a => a.textContent!.trim()))
const heading = (page: Page) => page.textContent('h1').then(text => text!.replace(/\u200b/g, '').trim())

onSite('the sidebar leads to every page that it lists, and marks the open one', async () => {
  const { page, said } = await open('tour/2-multiplication.html')
  assert.is((await active(page)).length, 1)
  for (const path of [
    'tour/index.html',
    'playground/masks.html',
    'evidence/mdt.html',
    'runs.html',
    'reference/index.html',
  ]) {
    const href = `/${path.replace(/index\.html$/, '')}`
    await page.click(`.VPSidebar a[href="${href}"]`)
    await page.waitForURL(`${site.address}${href}`)
    const marked = `.VPSidebar a[href="${href}"][aria-current=page]`
    await page.waitForSelector(marked)
    assert.equal(await active(page), [(await page.textContent(marked))!.trim()], path)
    if (path !== 'reference/index.html') assert.equal(await active(page), [await heading(page)], path)
  }
  await page.click('.VPSidebar a[href="/source/index.html"]')
  await page.waitForURL(`${site.address}/source/index.html`)
  assert.equal(said, [])
  await page.close()
})

onSite('the menu of a phone opens, leads on and closes by keyboard', async () => {
  const page = await browser.newPage({ viewport: { width: 390, height: 800 } })
  await page.goto(`${site.address}/tour/1-noise-and-back.html`)
  const link = page.locator('.VPSidebar a[href="/tour/2-multiplication.html"]')
  await page.waitForFunction(() => '__vue_app__' in document.querySelector('#app')!)
  const openMenu = async () => {
    await page.focus('.VPLocalNav .menu')
    await page.keyboard.press('Enter')
    await page.waitForSelector('.VPSidebar.open')
  }
  await openMenu()
  await page.keyboard.press('Escape')
  await page.waitForSelector('.VPSidebar:not(.open)', { state: 'attached' })
  await openMenu()
  await page.keyboard.press('Tab')
  assert.ok(
    await page.evaluate(() => document.activeElement!.closest('.VPSidebar') !== null),
    'the key Tab leads into the menu',
  )
  await link.focus()
  await page.keyboard.press('Enter')
  await page.waitForURL(`${site.address}/tour/2-multiplication.html`)
  await page.waitForSelector('.VPSidebar:not(.open)', { state: 'attached' })
  assert.is((await active(page)).length, 1)
  await page.close()
})

onSite('search lists chapters before the API', async () => {
  const { page } = await open('index.html')
  await page.keyboard.press('Control+k')
  for (const query of ['guidance', 'schedule', 'attention', 'adaLN', 'learning rate', 'side-interpolator', 'matmul']) {
    await page.fill('.VPLocalSearchBox input', query)
    await page.waitForFunction(
      word => document.querySelector('.VPLocalSearchBox .result mark')?.textContent?.toLowerCase().startsWith(word),
      query.split(/\W/)[0].toLowerCase(),
    )
    const hrefs = await page.$$eval('.VPLocalSearchBox .result', all => all.map(a => a.getAttribute('href')!))
    const first = (folder: string) => hrefs.findIndex(href => href.startsWith(`/${folder}/`))
    assert.ok(first('tour') >= 0, `${query}: ${hrefs.join(' ')}`)
    assert.ok(first('reference') < 0 || first('tour') < first('reference'), `${query}: ${hrefs.join(' ')}`)
  }
  await page.close()
})

test.run()
