/** Parts of a page that needs nothing but itself and the pictures beside it: headings, tables, curves, figures. Neutral. */

/** A page of sections, of which empty ones are left out. */
export function page(title: string, parts: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${text(title)}</title>
<style>
body { margin: 0 auto; max-width: 1280px; padding: 24px 20px 48px; background: #f6f6f4; color: #222; font: 15px/1.5 system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif; }
h1 { margin: 0; font-size: 22px; line-height: 1.3; overflow-wrap: anywhere; }
h2 { margin: 36px 0 10px; font-size: 16px; }
.facts { margin: 6px 0 0; color: #555; }
figure { margin: 0; padding: 10px; background: white; border: 1px solid #e2e2de; border-radius: 6px; }
figcaption { color: #555; font-size: 13px; }
figcaption b { color: #222; }
img, svg { display: block; width: 100%; height: auto; }
.last figure { width: fit-content; max-width: 100%; box-sizing: border-box; }
.last img { width: auto; max-width: 100%; }
.wide { margin-bottom: 12px; }
.earlier, .curves, .beside { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(360px, 100%), 1fr)); }
.earlier { margin-top: 12px; grid-template-columns: repeat(auto-fill, minmax(min(240px, 45%), 1fr)); }
pre { margin: 0; padding: 10px 12px; background: white; border: 1px solid #e2e2de; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
p { margin: 10px 0 4px; }
table { width: 100%; max-width: 760px; border-collapse: collapse; }
th, td { padding: 3px 14px 3px 0; border-bottom: 1px solid #e2e2de; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { width: 11em; font-weight: normal; color: #555; }
.grid { max-width: none; }
.grid th { width: auto; }
</style>
${parts.filter(part => part !== '').join('\n')}
</html>
`
}

/** A heading and what is below it; nothing without content. */
export function section(title: string, content: string): string {
  return content === '' ? '' : `<section>\n<h2>${title}</h2>\n${content}\n</section>`
}

/** Names and values, a row each; nothing without rows. */
export function table(rows: readonly (readonly [string, string])[]): string {
  if (rows.length === 0) return ''
  return `<table>${rows.map(([name, value]) => `<tr><th>${text(name)}</th><td>${text(value)}</td></tr>`).join('\n')}</table>`
}

/** A table with a first row of headings. */
export function grid(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map(cell => `<${tag}>${text(cell)}</${tag}>`).join('')}</tr>`
  return `<table class="grid">${[row(headings, 'th'), ...rows.map(cells => row(cells, 'td'))].join('\n')}</table>`
}

/** Text with the signs of HTML escaped. */
export function text(raw: string): string {
  return raw.replace(/[&<>"]/g, sign => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!)
}

/** A number with three digits. */
export function figure(value: number): string {
  return String(Number(value.toPrecision(3)))
}

/** A whole number with commas. */
export function grouped(value: number): string {
  return value.toLocaleString('en')
}
