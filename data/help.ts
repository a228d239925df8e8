/** Words of the command line about data sets, apart from what opens the sets: settings that quote them run in a browser. */

/** The data sets that `openDataset` opens, for --help. */
export const dataHelp =
  'emoji, emoji:smileys, emoji:others (no smileys), a folder of pictures (by class or not), a .csv or .jsonl of paths and labels, cifar10:DIR, cifar100:DIR, mnist:DIR, idx:FILE, npz:FILE or zip:FILE'

/** Places where a folder has the class of a picture: its first folder, or its file name up to the first `_`, as in ADM. */
export const classSources = ['folder', 'prefix'] as const

/** One of `classSources`. */
export type ClassFrom = (typeof classSources)[number]

/** Help on `--class-from`. */
export const classFromHelp =
  'where a folder has the class of a picture: its sub-folder, or the prefix of its file name (cat in cat_1.png)'
