/**
 * The order in which backward visits the graph: newest node first. A binary heap on node ids.
 */

import type { Node } from './graph.ts'

export class NewestFirst {
  readonly #heap: Node[] = []

  push(node: Node): void {
    const heap = this.#heap
    let i = heap.push(node) - 1
    for (let parent = (i - 1) >> 1; i > 0 && heap[parent].id < node.id; parent = (i - 1) >> 1) {
      heap[i] = heap[parent]
      i = parent
    }
    heap[i] = node
  }

  /** The node with the largest id, or null. */
  pop(): Node | null {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined) return null
    if (heap.length === 0) return last
    const top = heap[0]
    let i = 0
    for (let child = 1; child < heap.length; child = 2 * i + 1) {
      if (child + 1 < heap.length && heap[child + 1].id > heap[child].id) child++
      if (heap[child].id <= last.id) break
      heap[i] = heap[child]
      i = child
    }
    heap[i] = last
    return top
  }
}
