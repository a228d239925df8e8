/**
 * Interface of a command of `demask`. Its file exports `run`, which reads its own words with `readFlags` (cli/flags.ts: flags,
 * operands, examples) under the name `${demask} <its name>`; cli/index.ts lists it with one line and loads it only when
 * it is asked for. Needs Node.
 */

/** The command line of `demask`: the built package's bin, or this source. */
export const demask = import.meta.url.endsWith('.ts') ? 'npx tsx cli/index.ts' : 'npx demask'

export interface Command {
  /** A line for the list of commands. */
  readonly about: string
  readonly load: () => Promise<CommandModule>
  /** True if it may run for long: then it runs in a child process, so that Ctrl-C reaches it (run-in-child.ts). */
  readonly long?: true
}

/** A command's file. */
export interface CommandModule {
  /** `words` are those after the command's name. Throws UserError, whose line the person sees. */
  readonly run: (words: readonly string[]) => void | Promise<void>
}
