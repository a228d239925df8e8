/**
 * Classes of tables for narrow screens: tables of short numbers stay tables, `numbers`; the others become cards, `cards`, whose
 * cells show the heading of their column, `data-label`. Used by .vitepress/config.ts.
 */

import type { MarkdownRenderer } from 'vitepress'

/** Characters of a number, and of a row with a gap after each column, that fit a phone. */
const [longestNumber, longestRow] = [9, 44]

const longestWord = (text: string) => Math.max(...text.split(' ').map(({ length }) => length))

/** A plugin of markdown-it. */
export function tableLabels(md: MarkdownRenderer): void {
  // VitePress' own rule drops attributes, and makes tables focusable in order to scroll, which ours do not.
  md.renderer.rules.table_open = (tokens, i, options, _env, self) => self.renderToken(tokens, i, options)
  md.core.ruler.push('table-labels', ({ tokens }) => {
    let labels: string[] = []
    let column = 0
    let open = 0
    /** Characters of each column's longest word. */
    let widths: number[] = []
    /** True while all cells after a row's first are right-aligned and short. */
    let numeric = true
    for (const [i, { type }] of tokens.entries()) {
      const text = tokens[i + 1]?.content ?? ''
      if (type === 'table_open') [labels, open, numeric, widths] = [[], i, true, []]
      const right = tokens[i].attrGet('style') === 'text-align:right'
      if (right) tokens[i].attrs = [['class', 'right']] // the style sheet can change a class, not a style
      if (type === 'th_open') {
        labels.push(text.replace(/[*`]/g, ''))
        widths.push(longestWord(labels.at(-1)!))
        if (text === '') for (const cell of [tokens[i], tokens[i + 2]]) cell.tag = 'td' // heads nothing
      }
      if (type === 'tr_open') column = 0
      if (type === 'td_open') {
        if (column > 0 && !(right && text.length <= longestNumber)) numeric = false
        widths[column] = Math.max(widths[column] ?? 0, longestWord(text))
        tokens[i].attrSet('data-label', labels[column++] ?? '')
      }
      if (type === 'table_close' && labels.length > 1) {
        const row = widths.reduce((sum, width) => sum + width + 1, 0)
        tokens[open].attrSet('class', numeric && row <= longestRow ? 'numbers' : 'cards')
      }
    }
  })
}
