/** Help on data sets, apart from what opens them, so that settings that quote the help run in a browser. */

/** The data sets that `openDataset` opens, for --help. */
export const dataHelp =
  'emoji, emoji:smileys, emoji:others (no smileys), a folder of pictures (by class or not), a .csv or .jsonl of paths and labels, cifar10:DIR, cifar100:DIR, mnist:DIR, idx:FILE, npz:FILE or zip:FILE'
