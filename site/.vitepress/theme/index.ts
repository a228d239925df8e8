/** VitePress' own theme, with the style of formulas and the components that pages use by name. */

import 'katex/dist/katex.min.css'
import './style.css'
import type { Theme } from 'vitepress'
import theme from 'vitepress/theme'
import Gallery from '../../components/Gallery.vue'
import SortableTable from '../../components/SortableTable.vue'
import Widget from '../../components/Widget.vue'

export default {
  extends: theme,
  enhanceApp({ app }) {
    app.component('Gallery', Gallery)
    app.component('SortableTable', SortableTable)
    app.component('Widget', Widget)
  },
} satisfies Theme
