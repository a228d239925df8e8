/**
 * Worktrees in which runs train: a run finishes on the commit that it began with, so that later changes of arithmetic do not
 * reach it. Needs Node and git.
 */

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { UserError } from '../../io/user-error.ts'

/** This checkout. */
export const root = fileURLToPath(new URL('../..', import.meta.url))

function git(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('git', args, { cwd: root, encoding: 'utf8' })
  if (status !== 0) throw new UserError(`evidence: git ${args[0]}: ${stderr.trim().split('\n').at(-1)}`)
  return stdout.trim()
}

/** Returns the commit of this checkout. Throws UserError if tracked files differ from it. */
export function currentCommit(): string {
  const changed = git('status', '--porcelain', '--untracked-files=no')
    .split('\n')
    .filter(line => !/docs\/evidence/.test(line))
  if (changed.some(line => line !== ''))
    throw new UserError(
      `evidence: expected a checkout without changes, got ${changed.length} changed files; commit them`,
    )
  return git('rev-parse', 'HEAD')
}

/**
 * Returns the folder of a worktree of `commit` in `folder`, made and built if it is missing; it shares the packages of this
 * checkout. Throws UserError.
 */
export function treeOf(commit: string, folder: string): string {
  const tree = join(folder, commit.slice(0, 12))
  if (!existsSync(join(tree, 'package.json'))) git('worktree', 'add', '--detach', '--force', tree, commit)
  const packages = join(tree, 'node_modules')
  if (!existsSync(packages)) {
    rmSync(packages, { force: true }) // a link to a checkout that is gone
    symlinkSync(join(root, 'node_modules'), packages)
  }
  if (existsSync(join(tree, 'core/backends/wasm/generated/simd.ts'))) return tree
  const built = spawnSync(process.execPath, ['--import', 'tsx', 'core/backends/wasm/build.ts'], { cwd: tree })
  if (built.status !== 0) throw new UserError(`evidence: the wasm backend of ${commit.slice(0, 12)} does not build`)
  return tree
}

/** Exit code and standard output of a command of `demask` in a tree. */
export interface Ended {
  readonly code: number | null
  readonly output: string
}

/**
 * Runs a command of `demask` in a tree. Its errors are shown. Training of hours has the lowest priority; in this checkout, as
 * in a trial, a command has that of its caller.
 */
export function demask(tree: string, words: readonly string[]): Promise<Ended> {
  const command = [process.execPath, '--import', 'tsx', 'cli/index.ts', ...words]
  const [program, ...rest] = tree === root ? command : ['nice', '-n', '19', ...command]
  const child = spawn(program, rest, { cwd: tree, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', chunk => (output += chunk))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => resolve({ code, output }))
  })
}
