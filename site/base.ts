/** Path below which the site is served, '/' by itself or '/name/' on GitHub Pages: the environment variable SITE_BASE. */
export const base = `/${process.env.SITE_BASE ?? ''}/`.replace(/\/+/g, '/')

/** Address of the published site, for links that leave it: the environment variable SITE_URL, null if unset. */
export const address = process.env.SITE_URL?.replace(/\/$/, '') ?? null
