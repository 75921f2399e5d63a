/**
 * Ends the process with a message for the person at the terminal: what is wrong, and what to do.
 *
 * @param {string} what
 * @param {string} remedy
 * @returns {never}
 */
export const stop = (what, remedy) => {
  console.error(`\ndatamcp: ${what}\n${remedy}\n`)
  process.exit(1)
}
