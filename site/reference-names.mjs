/**
 * For TypeDoc, which calls every parameter that is taken apart in its place `__namedParameters`: a name by its type, `mask`
 * for a TokenMask, `options` for what has no name or ends with it. Used by typedoc.json.
 */

import { Converter, ReflectionKind } from 'typedoc'

function nameOf(type) {
  if (type?.type === 'typeOperator') return 'sizes' // readonly [N, K]
  if (type?.type !== 'reference' || /Options?$|^Pick$/.test(type.name)) return 'options'
  const word = type.name.split(/(?=[A-Z])/).at(-1)
  return word.toLowerCase()
}

export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const parameter of project.getReflectionsByKind(ReflectionKind.Parameter)) {
      if (parameter.name !== '__namedParameters') continue
      const name = nameOf(parameter.type)
      const others = parameter.parent.parameters.map(each => each.name)
      parameter.name = others.includes(name) ? 'more' : name
    }
  })
}
