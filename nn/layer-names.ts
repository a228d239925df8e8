/**
 * Names of the layers that run, for debugging. The methods of a model's modules are wrapped for the length of one call,
 * so modules and their `forward` hold no code for it, and it costs nothing otherwise.
 */

import { aFunction, check } from '../core/arguments.ts'
import { labelled } from '../core/index.ts'
import { aModule, Module } from './module.ts'

/**
 * Runs `fn`, in which every op that a module of `model` dispatches is `labelled` with the module's dotted name, as in
 * its state dict (`blocks.3.attn.qkv`), and the model's own with the name of its class. Gradients are labelled with it.
 */
export function withLayerNames<T>(model: Module, fn: () => T): T {
  check('withLayerNames', 'model', model, aModule)
  check('withLayerNames', 'fn', fn, aFunction)
  const wrapped: [module: Module, method: string][] = []
  try {
    for (const [name, module] of namedModules(model))
      for (const [method, run] of methodsOf(module)) {
        const value = (...args: unknown[]) => labelled(name, () => run.apply(module, args))
        Object.defineProperty(module, method, { value, configurable: true }) // hides the class's; not among its fields
        wrapped.push([module, method])
      }
    return fn()
  } finally {
    for (const [module, method] of wrapped) Reflect.deleteProperty(module, method)
  }
}

/** The model under its class's name, and all modules in it under their dotted names. */
function namedModules(model: Module): [name: string, module: Module][] {
  const found: [string, Module][] = [[model.constructor.name, model]]
  const walk = (module: Module, prefix: string) => {
    for (const [name, child] of module.children()) {
      found.push([prefix + name, child])
      walk(child, `${prefix}${name}.`)
    }
  }
  walk(model, '')
  return found
}

/** Methods of the classes between a module's own and Module, the nearest first. */
function methodsOf(module: Module): Map<string, (...args: unknown[]) => unknown> {
  const methods = new Map<string, (...args: unknown[]) => unknown>()
  for (let at = Object.getPrototypeOf(module); at !== Module.prototype; at = Object.getPrototypeOf(at))
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors<Record<string, unknown>>(at)))
      if (typeof value === 'function' && name !== 'constructor' && !methods.has(name))
        methods.set(name, value as (...args: unknown[]) => unknown)
  return methods
}
