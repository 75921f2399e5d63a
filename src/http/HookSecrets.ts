/**
 * Secrets of hooks may stand in a path: what is written down of a request's URL, in traces, logs and problems, goes through
 * here.
 */
const secretInPath = /(?<=\/hooks\/[^/]{1,100}\/)[A-Za-z0-9_-]{32,}/u

/** Whether a URL shows what may be a hook's secret. */
export const showsHookSecret = (url: string): boolean => secretInPath.test(url)

/** The URL without it. */
export const withoutHookSecret = (url: string): string => url.replace(secretInPath, "...")
