/**
 * Gives each cell of a table the heading of its column, `data-label`, so that the style sheet can show rows as cards on a narrow
 * screen. Used by .vitepress/config.ts.
 */

import type { MarkdownRenderer } from 'vitepress'

/** A plugin of markdown-it. */
export function tableLabels(md: MarkdownRenderer): void {
  // VitePress' own rule drops attributes, and makes tables focusable in order to scroll, which ours do not.
  md.renderer.rules.table_open = (tokens, i, options, _env, self) => self.renderToken(tokens, i, options)
  md.core.ruler.push('table-labels', ({ tokens }) => {
    let labels: string[] = []
    let column = 0
    for (const [i, { type }] of tokens.entries()) {
      const text = tokens[i + 1]?.content ?? ''
      if (type === 'table_open') labels = []
      if (type === 'th_open') labels.push(text.replace(/[*`]/g, ''))
      if (type === 'tr_open') column = 0
      if (type === 'td_open') tokens[i].attrSet('data-label', labels[column++] ?? '')
      if (type === 'thead_close' && labels.length > 1) openingOf(tokens, i).attrSet('class', 'cards')
    }
  })
}

function openingOf<T extends { readonly type: string }>(tokens: readonly T[], at: number): T {
  let i = at
  while (tokens[i].type !== 'table_open') i--
  return tokens[i]
}
