/** VitePress' own theme, with the style of formulas. */

import 'katex/dist/katex.min.css'
import './style.css'
import theme from 'vitepress/theme'

export default theme
