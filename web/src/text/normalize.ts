/** Normalize questions as `captioner/text.py` does, so that the model reads what it was trained on. */

// Python's white space, which differs from that of `\s`: it includes U+001C to U+001F and U+0085, and not U+FEFF.
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
const BEFORE_PUNCTUATION = / +(?=[.,;:!?)\]%](?: |$|[.,;:!?)\]"]))/gu;
const AFTER_BRACKET = /(?<=[([]) +/gu;
const CLITIC = / +(?=(?:'(?:s|m|d|re|ve|ll)|n't)(?![\p{L}\p{N}_]))/giu;
const INNER_QUOTES = /(?<![^ ])" ([^"]*[^" ]) "(?![^ ])/gu;
const QUOTES: Record<string, string> = { '"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb" };

/** Return a question in the form that the model is trained on, without question marks. */
export function normalizeQuestion(text: string, lowercase: boolean): string {
    return untilStable(text, (t) => normalizeCaption(t, lowercase).replace(/[ ?]+$/, ""));
}

/** Return a caption in the form that the model is trained on. */
export function normalizeCaption(text: string, lowercase: boolean): string {
    return untilStable(lowercase ? text.toLowerCase() : text, normalizeOnce);
}

function untilStable(text: string, change: (text: string) => string): string {
    const changed = change(text);
    return changed === text ? text : untilStable(changed, change);
}

function normalizeOnce(text: string): string {
    const plain = text
        .split(WHITE_SPACE)
        .filter(Boolean)
        .join(" ")
        .replace(BEFORE_PUNCTUATION, "")
        .replace(AFTER_BRACKET, "")
        .replace(CLITIC, "")
        .replace(INNER_QUOTES, '"$1"')
        .replace(/[ .]+$/, "");
    const characters = Array.from(plain);
    const [first, last] = [characters[0], characters[characters.length - 1]];
    if (characters.length < 2 || QUOTES[first] !== last) return plain;
    const inner = characters.slice(1, -1);
    return inner.includes(first) || inner.includes(last) ? plain : inner.join("");
}
