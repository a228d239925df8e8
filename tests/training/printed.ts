/** Output of code that prints: captured, so that a test can check it. */

/** Runs `use` without output. Returns what it printed, and its error. */
export async function told(use: () => Promise<unknown>): Promise<{ said: string; error: Error | null }> {
  const [log, write] = [console.log, process.stdout.write]
  let said = ''
  console.log = (line: string) => {
    said += `${line}\n`
  }
  process.stdout.write = ((text: string) => {
    said += text
    return true
  }) as typeof write
  try {
    await use()
    return { said, error: null }
  } catch (error) {
    return { said, error: error as Error }
  } finally {
    console.log = log
    process.stdout.write = write
  }
}

/** Runs `use` without output. Returns what it printed. Rejects with its error. */
export async function quietly(use: () => Promise<unknown>): Promise<string> {
  const { said, error } = await told(use)
  if (error !== null) throw error
  return said
}
