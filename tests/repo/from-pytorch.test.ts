/**
 * docs/from-pytorch.md keeps its word: every line of its tables type-checks and runs, with the declarations that the page gives,
 * and there are at least 150. Needs Node.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { blocks, read, root } from './markdown.ts'
import { rooms, specifierOf } from './rooms.ts'

const document = 'docs/from-pytorch.md'
const page = read(document)
const workshop = join(root, 'runs/from-pytorch-test')

interface Line {
  readonly pytorch: string
  readonly code: string
}

/** Cells of the tables: PyTorch's name and ours, each as inline code. */
const lines: readonly Line[] = [...page.matchAll(/^\| `([^`]+)` \| `([^`]+)` \| .*\|$/gm)].map(([, pytorch, code]) => ({
  pytorch,
  code: code.replaceAll('\\|', '|'),
}))

/** The declarations that the page gives for all lines. */
const given = blocks(page).find(({ language }) => language === 'typescript')!.text

/** Imports of the names in a text, each from the first room that has it. */
async function importsFor(text: string): Promise<string> {
  const words = new Set(text.match(/[A-Za-z_$][\w$]*/g))
  const statements: string[] = []
  for (const room of rooms) {
    if (specifierOf(room) === null) continue
    const entry = join(root, room, existsSync(join(root, room, 'index-node.ts')) ? 'index-node.ts' : 'index.ts')
    const names = Object.keys(await import(entry)).filter(name => words.delete(name))
    if (names.length > 0) statements.push(`import { ${names.join(', ')} } from '${relative(workshop, entry)}'`)
  }
  return statements.join('\n')
}

test.before(async () => {
  rmSync(workshop, { recursive: true, force: true })
  mkdirSync(workshop, { recursive: true })
  copyFileSync(join(root, 'tests/fixtures/pytorch/training.pt'), join(workshop, 'model.pt'))
  const imports = await importsFor(`${given}\n${lines.map(({ code }) => code).join('\n')}`)
  const calls = lines.map(
    ({ pytorch, code }) => `await line(${JSON.stringify(`${pytorch} | ${code}`)}, async () => {\n${given};${code}\n})`,
  )
  writeFileSync(
    join(workshop, 'lines.ts'),
    `${imports}
console.log = () => {}
async function line(text: string, run: () => Promise<void>): Promise<void> {
  await run().catch(error => console.error(text + ': ' + error))
}
${calls.join('\n')}
`,
  )
  const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false }
  writeFileSync(
    join(workshop, 'tsconfig.json'),
    JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, include: ['*.ts'], exclude: [] }),
  )
})

test.after(() => rmSync(workshop, { recursive: true }))

test('there are 150 names, each once', () => {
  assert.ok(lines.length >= 150, `${lines.length} lines`)
  assert.is(lines.length, page.match(/^\| `/gm)!.length, 'a line that the test does not see')
  const seen = new Set(lines.map(({ pytorch }) => pytorch))
  assert.is(seen.size, lines.length)
})

test('every line type-checks', () => {
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  try {
    execFileSync(process.execPath, [tsc, '--noEmit', '-p', workshop], { encoding: 'utf8', cwd: root })
  } catch (error) {
    assert.unreachable((error as { stdout: string }).stdout)
  }
})

test('every line runs', () => {
  const { stderr, status } = spawnSync(process.execPath, [...process.execArgv, 'lines.ts'], {
    cwd: workshop,
    encoding: 'utf8',
  })
  assert.is(stderr, '')
  assert.is(status, 0)
})

test.run()
