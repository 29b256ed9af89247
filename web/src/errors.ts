/** Errors with a message for the user, in one line. */

/** An error whose message the page shows as it is. */
export class UserError extends Error {}

const OUT_OF_MEMORY =
    "The browser has too little memory for this. Close other tabs, or use a smaller image, and reload the page.";
const MEMORY_PATTERN = /out of memory|\bOOM\b|bad_alloc|allocation failed|failed to allocate|memory access out of bounds/i;

/** Return the line that the page shows for any error. */
export function describeError(error: unknown): string {
    if (error instanceof UserError) return error.message;
    const text = error instanceof Error ? error.message : String(error);
    if (MEMORY_PATTERN.test(text)) return OUT_OF_MEMORY;
    const [line] = text.split("\n");
    return `The page has failed (${line.slice(0, 200)}). Reload it and try again.`;
}
