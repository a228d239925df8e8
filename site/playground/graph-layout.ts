/**
 * Places the boxes of a computation graph in columns and draws edges that pass no box: an edge over several columns gets a slot
 * of its own in each column between, and bends only in the gaps. The order within columns follows the neighbours' means
 * (Sugiyama's barycentre method). Used by Expression.vue.
 */

export interface Box {
  /** Position in the list; inputs have smaller ids. */
  readonly id: number
  readonly inputs: readonly number[]
  /** In pixels. */
  readonly height: number
}

export interface Sizes {
  /** Width of a box and its column. */
  readonly width: number
  /** Between columns. */
  readonly gap: number
}

export interface Place {
  readonly id: number
  readonly x: number
  readonly y: number
}

export interface Edge {
  readonly from: number
  readonly to: number
  /** Pairs of points: a straight run through each column between, and at the end the input. */
  readonly points: readonly (readonly [x: number, y: number])[]
  /** As the attribute `d` of an SVG path. */
  readonly path: string
}

export interface Layout {
  readonly places: readonly Place[]
  readonly edges: readonly Edge[]
  readonly width: number
  readonly height: number
}

/** A box, or the slot of an edge that passes through a column. */
interface Slot {
  readonly height: number
  readonly column: number
  readonly before: Slot[]
  readonly after: Slot[]
  order: number
  y: number
}

const slotHeight = 14
const space = 20
const sweeps = 6

/** Returns places and edges. Boxes come with inputs before results. */
export function layoutGraph(boxes: readonly Box[], { width, gap }: Sizes): Layout {
  const columns = columnsOf(boxes)
  const layers: Slot[][] = []
  const add = (column: number, height: number): Slot => {
    layers[column] ??= []
    const slot = { column, height, before: [], after: [], order: layers[column].length, y: 0 }
    layers[column].push(slot)
    return slot
  }
  const slots = boxes.map(({ id, height }) => add(columns[id], height))
  const chains = boxes.flatMap(({ id, inputs }) =>
    inputs.map((from, port) => {
      const chain = [slots[from]]
      for (let column = columns[from] + 1; column < columns[id]; column++) chain.push(add(column, slotHeight))
      chain.push(slots[id])
      for (let i = 1; i < chain.length; i++) {
        chain[i].before.push(chain[i - 1])
        chain[i - 1].after.push(chain[i])
      }
      return { from, to: id, port, ports: inputs.length, chain }
    }),
  )
  orderLayers(layers)
  const height = placeLayers(layers)
  const left = (slot: Slot) => slot.column * (width + gap)
  return {
    places: boxes.map(({ id }) => ({ id, x: left(slots[id]), y: slots[id].y })),
    edges: chains.map(({ from, to, port, ports, chain }) => {
      const [first, last] = [chain[0], chain[chain.length - 1]]
      const points: [number, number][] = [[left(first) + width, first.y + first.height / 2]]
      for (const slot of chain.slice(1, -1)) {
        const y = slot.y + slot.height / 2
        points.push([left(slot), y], [left(slot) + width, y])
      }
      points.push([left(last), last.y + (last.height * (port + 1)) / (ports + 1)])
      return { from, to, points, path: pathOf(points, gap) }
    }),
    width: Math.max(0, layers.length * (width + gap) - gap),
    height,
  }
}

/** The longest way from a leaf; leaves stand right before the first box that reads them. */
function columnsOf(boxes: readonly Box[]): number[] {
  const columns: number[] = []
  for (const { id, inputs } of boxes) columns[id] = Math.max(-1, ...inputs.map(i => columns[i])) + 1
  for (const { id, inputs } of boxes) {
    const readers = boxes.filter(box => box.inputs.includes(id)).map(box => columns[box.id])
    if (inputs.length === 0 && readers.length > 0) columns[id] = Math.min(...readers) - 1
  }
  return columns
}

function orderLayers(layers: readonly Slot[][]): void {
  const mean = (slots: readonly Slot[], own: number) =>
    slots.length === 0 ? own : slots.reduce((sum, { order }) => sum + order, 0) / slots.length
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const forward = sweep % 2 === 0
    for (const layer of forward ? layers : [...layers].reverse()) {
      const key = new Map(layer.map(slot => [slot, mean(forward ? slot.before : slot.after, slot.order)]))
      layer.sort((a, b) => key.get(a)! - key.get(b)! || a.order - b.order)
      for (const [i, slot] of layer.entries()) slot.order = i
    }
  }
}

/** Stacks each column around the middle. Returns the height of the tallest. */
function placeLayers(layers: readonly Slot[][]): number {
  const heights = layers.map(layer => layer.reduce((sum, { height }) => sum + height + space, -space))
  const tallest = Math.max(0, ...heights)
  for (const [i, layer] of layers.entries()) {
    let y = (tallest - heights[i]) / 2
    for (const slot of layer) {
      slot.y = y
      y += slot.height + space
    }
  }
  return tallest
}

/** Curves in the gaps, straight runs in the columns. */
function pathOf(points: readonly (readonly [number, number])[], gap: number): string {
  let path = `M${points[0].join(',')}`
  for (let i = 1; i < points.length; i += 2) {
    const [[x1, y1], [x2, y2]] = [points[i - 1], points[i]]
    path += ` C${x1 + gap / 2},${y1} ${x2 - gap / 2},${y2} ${x2},${y2}`
    if (i + 1 < points.length) path += ` L${points[i + 1].join(',')}`
  }
  return path
}
