/**
 * Keeps a comma or full stop on the line of the formula before it by making it part of the formula: a line can break between
 * KaTeX's boxes and text. Used by .vitepress/config.ts.
 */

import type { MarkdownRenderer } from 'vitepress'

/** A plugin of markdown-it. */
export function joinPunctuation(md: MarkdownRenderer): void {
  md.core.ruler.push('join-punctuation', ({ tokens }) => {
    for (const { children } of tokens) {
      children?.forEach((formula, i) => {
        const next = children[i + 1]
        const mark = next?.type === 'text' && /^[.,:;!?)]+/.exec(next.content)?.[0]
        if (formula.type !== 'math_inline' || !mark) return
        formula.content += `\\text{${mark}}`
        next.content = next.content.slice(mark.length)
      })
    }
  })
}
