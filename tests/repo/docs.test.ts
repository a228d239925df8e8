/**
 * Documents keep their word: every TypeScript block type-checks and runs, and prints what its comments say; every shell
 * line names scripts, files and flags that exist; links lead somewhere; the tour and the papers' pages quote the source
 * as it is; every paper cited in a comment is listed. Needs Node.
 */

import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, columns, pagesWithCode, withCode, withoutCode } from '../../site/code.ts'
import { type Block, blocks, find, linkTo, localLinks, quotations, quoting, read, root } from './markdown.ts'
import { rooms, specifierOf } from './rooms.ts'

// Without files that the site's build makes, and templates of pages.
const written = listed('docs').filter(name => !/^docs\/(reference|source|public)\//.test(name))
const documents = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...written].filter(name => name.endsWith('.md'))
const folders = [...rooms, 'bench', 'tests']

/** All files under a folder, with its name before theirs. */
function listed(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(name => `${folder}/${name}`)
}

// ---- TypeScript blocks ----------------------------------------------------------------------------------------------

// Inside the repository, so that packages are found; in runs/, which git and the linter pass by.
const workshop = join(root, 'runs/docs-test')

/**
 * The program of a block. `demask` stands for the source by way of tsconfig paths. A block that begins with
 * `// path/of/file.ts` imports relative to that path; if that is an op, its derivatives are checked.
 */
function programOf(block: Block): string {
  const place = /^\/\/ ([\w./-]+\.ts)\n/.exec(block.text)?.[1]
  if (place === undefined) return block.text
  const here = (path: string) => relative(workshop, resolve(root, dirname(place), path))
  const text = block.text.replace(/from '(\.[^']+)'/g, (_, path) => `from '${here(path)}'`)
  return place.startsWith('core/ops/') ? `${text}\n${opCheck}` : text
}

const opCheck = `import { gradcheckOp } from '${relative(workshop, join(root, 'core/gradcheck.ts'))}'
import { registry } from '${relative(workshop, join(root, 'core/op.ts'))}'
const { first, second } = gradcheckOp([...registry().values()].at(-1)!)
if (!(first! <= 1e-6 && second! <= 1e-6)) throw new Error(\`errors of the derivatives: \${first}, \${second}\`)`

/** Outputs that `console.log(…) // text` promises, in order; undefined without a comment. */
function promises(block: Block): (string | undefined)[] {
  return [...block.text.matchAll(/^ *console\.log\(.*\)(?: \/\/ (.*))?$/gm)].map(match => match[1])
}

const programs = documents.flatMap(document =>
  blocks(withoutCode(read(document)))
    .filter(({ language, text }) => language === 'ts' && (!quoting().includes(document) || text.includes('import ')))
    .map(block => ({ document, block, file: join(workshop, `${document.replace(/\W/g, '-')}-${block.line}.ts`) })),
)

test.before(() => {
  rmSync(workshop, { recursive: true, force: true })
  mkdirSync(workshop, { recursive: true })
  for (const { block, file } of programs) writeFileSync(file, `${programOf(block)}\nexport {}\n`)
  const entry = (room: string) => ['index-node.ts', 'index.ts'].map(file => join(root, room, file)).filter(existsSync)
  const paths = Object.fromEntries(
    rooms.flatMap(room => {
      const specifier = specifierOf(room)
      return specifier === null ? [] : [[specifier, entry(room)]]
    }),
  )
  const config = { extends: join(root, 'tsconfig.json'), compilerOptions: { paths }, include: ['*.ts'], exclude: [] }
  writeFileSync(join(workshop, 'tsconfig.json'), JSON.stringify(config))
})

test.after(() => rmSync(workshop, { recursive: true }))

test('there are blocks to run', () => {
  assert.ok(programs.some(({ document }) => document === 'README.md'))
  assert.ok(programs.some(({ document }) => document === 'CONTRIBUTING.md'))
})

test('TypeScript blocks type-check', () => {
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  try {
    execFileSync(process.execPath, [tsc, '--noEmit', '-p', workshop], { encoding: 'utf8', cwd: root })
  } catch (error) {
    assert.unreachable((error as { stdout: string }).stdout)
  }
})

for (const { document, block, file } of programs)
  test(`${document}:${block.line} runs and prints what it says`, async () => {
    const env = { ...process.env, TSX_TSCONFIG_PATH: join(workshop, 'tsconfig.json'), NO_COLOR: '1' }
    const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, file], { cwd: workshop, env })
    const printed = stdout.trimEnd().split('\n')
    promises(block).forEach((promise, i) => {
      if (promise !== undefined) assert.is(printed[i], promise)
    })
  })

// ---- shell blocks ---------------------------------------------------------------------------------------------------

const scripts = JSON.parse(read('package.json')).scripts as Record<string, string>
const tests = listed('tests').filter(name => name.endsWith('.test.ts'))
const help = new Map<string, string>()

/** Help of an example, or of a command of `demask`, which has its name after the file's. */
function helpOf(script: string, words: readonly string[]): string {
  const name = [script, ...words].join(' ')
  let text = help.get(name)
  if (text === undefined) {
    const args = [...process.execArgv, join(root, script), ...words, '--help']
    text = execFileSync(process.execPath, args, { encoding: 'utf8' })
    help.set(name, text)
  }
  return text
}

/** Throws where a command names something that does not exist. */
function checkCommand(command: string): void {
  const [program, ...args] = command.split(/\s+/)
  if (program === 'git' || program === 'cd') return
  if (program === 'npm') {
    if (['ci', 'audit', 'install', 'pack'].includes(args[0])) return
    if (args[0] === 'test') {
      for (const name of args.slice(2))
        assert.ok(
          tests.some(file => file.includes(name)),
          `${command}: no file ${name}`,
        )
      return
    }
    assert.is(args[0], 'run', command)
    assert.ok(scripts[args[1]] !== undefined, `${command}: no script '${args[1]}'`)
    return
  }
  if (program === 'npx' && args[0] === 'biome') return
  if (program === 'npx' && args[0] === 'demask') {
    if (args.length > 1) checkCommand(['npx tsx cli/index.ts', ...args.slice(1)].join(' '))
    return
  }
  assert.equal([program, args[0]], ['npx', 'tsx'], `a command of a kind that is not checked: ${command}`)
  const [, script, ...flags] = args
  assert.ok(existsSync(join(root, script)), `${command}: no file ${script}`)
  // The family may be left to the file that --config names: its flags are those of all families.
  const [name, family] = flags
  const named = family?.startsWith('--') ? 'mdt' : family
  const words = script === 'cli/index.ts' ? (name === 'train' ? [name, named] : [name]) : []
  for (const flag of flags.filter(flag => flag.startsWith('--')))
    assert.ok(helpOf(script, words).includes(flag), `${command}: ${script} has no flag ${flag}`)
}

for (const document of documents)
  for (const { language, text, line } of blocks(read(document)))
    if (language === 'sh')
      test(`${document}:${line} names what exists`, () => {
        for (const row of text.trimEnd().split('\n'))
          for (const command of row.replace(/(^| )#.*$/, '').split('&&'))
            if (command.trim() !== '') checkCommand(command.trim())
      })
    else if (document !== 'docs/from-pytorch.md')
      // from-pytorch.test.ts runs its block
      assert.ok(
        ['ts', 'text', 'json'].includes(language),
        `${document}:${line}: a block in '${language}' is not checked`,
      )

for (const document of documents)
  test(`${document}: commands within sentences exist`, () => {
    for (const [, command] of read(document).matchAll(/`((?:npm|npx) [^`]+)`/g))
      if (!command.includes('…') && !command.includes('-- DIR')) checkCommand(command)
  })

test('README names the two commands, and .ci/run calls the one that tests', () => {
  const readme = read('README.md')
  for (const command of ['npm ci && npx tsx examples/train-mdt-s.ts', 'npm ci && npm test'])
    assert.ok(readme.split('\n').includes(command), command)
})

// ---- links, quotations, citations -----------------------------------------------------------------------------------

for (const document of documents)
  test(`${document}: links lead somewhere`, () => {
    for (const target of localLinks(read(document)))
      assert.ok(existsSync(resolve(root, dirname(document), target)), `${target} does not exist`)
  })

for (const document of quoting())
  test(`${document} quotes the source where it says`, () => {
    const quoted = quotations(read(document))
    assert.ok(quoted.length > 0)
    for (const { path, line, lines, link } of quoted) {
      const at = find(path, lines)
      const where =
        at.length === 0 ? 'which is gone' : `which is at ${at.join(', ')} (npx tsx tests/repo/markdown.ts mends it)`
      assert.ok(at.includes(line), `${path}:${line} is quoted with '${lines[0]}', ${where}`)
      assert.is(link, linkTo(path, line, document))
    }
  })

for (const page of pagesWithCode())
  test(`${page} shows the source as it is`, () => {
    const markdown = read(page)
    assert.is(withCode(markdown, page), markdown, 'npm run docs:code writes the current code')
    for (const { path, lines } of codeOf(markdown)) {
      assert.ok(lines.length <= 24, `${path}: ${lines.length} lines from '${lines[0]}' on`)
      const wide = lines.filter(line => line.length > columns)
      assert.equal(wide, [], `${path}: lines of more than ${columns} columns`)
    }
  })

test('a piece that is missing is an error that names it', () => {
  const page = (piece: string) => withCode(`<!-- code ${piece} -->\n<!-- end -->`, 'docs/tour/page.md')
  assert.throws(() => page('core/op.ts#nothing'), /core\/op\.ts: expected .* 'nothing', got none/)
  assert.throws(() => page('core/no.ts#mul'), /core\/no\.ts: expected a file/)
  assert.throws(() => page('core/op.ts#apply from "nowhere"'), /expected a line with 'nowhere'/)
  assert.throws(() => withCode('<!-- numbers none -->\n<!-- end -->', 'docs/tour/page.md'), /got 'none'/)
})

test('every citation in a comment is listed in docs/references.md', () => {
  const tags = [...read('docs/references.md').matchAll(/^- \*\*\[([\w+–-]+)\]\*\*/gm)].map(match => match[1])
  const papers = new Set(tags)
  assert.is(papers.size, tags.length, 'each paper is listed once')
  assert.ok(papers.has('MDT') && papers.has('DDPM'))
  const unknown: string[] = []
  let cited = 0
  for (const path of folders.flatMap(listed)) {
    if (!path.endsWith('.ts') || path.includes('generated') || path.includes('node_modules')) continue
    const comments = read(path).match(/\/\*\*.*?\*\/|\/\/.*$/gms) ?? []
    // A citation tells a place in a paper, or is nothing but a tag.
    for (const [, inside] of comments.join('\n').matchAll(/\[([^[\]\n]+)\]/g)) {
      const isCitation = /§|\b(eq|alg|fig)\.|\b(table|line|appendix) [\dA-Z]/.test(inside) || papers.has(inside)
      if (!isCitation || !/^[A-Za-z]/.test(inside)) continue
      const [tag] = inside.split(/[ ,]/)
      if (papers.has(tag)) cited++
      else unknown.push(`${path}: [${inside}]`)
    }
  }
  assert.equal(unknown, [])
  assert.ok(cited > 20)
})

test.run()
