/** The `demask` command as a person types it. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fail, succeed } from './example.ts'

test('--help lists every command, and every command has a help with examples', async () => {
  const help = await succeed('demask', ['--help'])
  assert.is(await succeed('demask', []), help)
  const commands = [
    ...help
      .split('Commands:')[1]
      .split('Examples:')[0]
      .matchAll(/^ {2}([\w-]+) /gm),
  ]
    .map(match => match[1])
    .filter(name => name !== 'help')
  assert.ok(commands.length >= 1)
  for (const name of commands) {
    const own = await succeed('demask', [name, '--help'])
    assert.match(own, new RegExp(`Usage: npx tsx cli/index\\.ts ${name} `))
    assert.match(own, new RegExp(`Examples:\\n  # .+\\n  npx tsx cli/index\\.ts ${name}`))
    if (name === commands[0]) assert.is(await succeed('demask', ['help', name]), own)
  }
})

test('what does not exist is one line, with the nearest name', async () => {
  await fail('demask', ['trian'], /unknown command 'trian' \(Did you mean train\?\)/)
  await fail('demask', ['--frob'], /unknown option '--frob'/)
  await fail('demask', ['train', 'mtd'], /model: wanted one of mdt, .*, got 'mtd'/)
  await fail('demask', ['train', 'mdt', '--stpes', '4'], /unknown option '--stpes' \(Did you mean --steps\?\)/)
})

test.run()
