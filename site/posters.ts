/**
 * Writes the static pictures of the interactive figures, docs/pictures/widgets, which pages show until a figure is opened and
 * which GitHub shows instead: screenshots of the built site. Run: npm run site:build, then npx tsx site/posters.ts. Needs
 * Chromium.
 */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { chromium, type Page } from 'playwright-core'
import sharp from 'sharp'
import { main } from '../cli/main.ts'
import { UserError } from '../io/user-error.ts'
import { executable, quietFlags } from '../tests/core/browser-host.ts'
import { built, serveSite } from '../tests/site/site-server.ts'
import { root } from './regions.ts'

/** Each figure, and its state in the picture. */
const figures: Readonly<Record<string, (page: Page) => Promise<unknown>>> = {
  expression: page => page.waitForSelector('[data-node=sum]'),
  noise: page => page.waitForSelector('[data-test=why]'),
  masks: async page => {
    await page.check('[value=block]')
    await page.fill('[data-test=ratio]', '0.75')
  },
  attention: page => page.waitForSelector('[data-test=strongest]'),
  block: page => page.waitForSelector('[data-test=value-panel]'),
  guidance: page =>
    page.waitForFunction(
      () => (document.querySelector('[data-test=draw]') as HTMLButtonElement | null)?.disabled === false,
      undefined,
      { timeout: 120_000 },
    ),
  train: async page => {
    await page.fill('[data-test=batch]', '8') // faces after fewer pictures than with larger batches
    await page.click('[data-test=start]')
    const trained = () => Number(document.querySelector('[data-test=progress]')?.getAttribute('data-step')) >= 1100
    await page.waitForFunction(trained, undefined, { timeout: 1_200_000 })
    await page.click('[data-test=pause]')
    await page.waitForSelector('[data-test=start]')
    await page.click('[data-test=samples]')
    await page.waitForSelector('[data-test=samples]:not(:disabled)')
  },
}

await main(async () => {
  if (!built) throw new UserError('posters: expected site/dist; npm run site:build makes it')
  if (executable === undefined) throw new UserError('posters: expected Chromium, got none')
  const asked = process.argv.slice(2)
  const site = await serveSite({ isolated: true })
  const browser = await chromium.launch({ executablePath: executable, args: quietFlags })
  const folder = join(root, 'docs/pictures/widgets')
  mkdirSync(folder, { recursive: true })
  try {
    for (const [name, prepare] of Object.entries(figures)) {
      if (asked.length > 0 && !asked.includes(name)) continue
      const page = await browser.newPage({ viewport: { width: 920, height: 900 }, deviceScaleFactor: 1.5 })
      await page.goto(`${site.address}/playground/${name}.html`)
      await page.waitForSelector(`[data-test=${name}]`)
      await prepare(page)
      await page.addStyleTag({ content: '.VPNav, .VPLocalNav { display: none }' }) // they would cover the figure
      await page.waitForTimeout(300)
      const picture = await page.locator(`[data-test=${name}]`).screenshot()
      await sharp(picture)
        .png({ palette: true, effort: 10, dither: 0 })
        .toFile(join(folder, `${name}.png`))
      await page.close()
    }
  } finally {
    await browser.close()
    site.close()
  }
})
