/** The type of an imported Vue component. */
declare module '*.vue' {
  import type { Component } from 'vue'

  const component: Component
  export default component
}
