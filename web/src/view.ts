/** Elements of the page, and the rendering of results as text, never as HTML. */

import type { CaptionResult } from "./model/captioner";
import type { ScoredText } from "./model/confidence";

const LITTLE_SEEN = "This image shows little that can be recognized; do not rely on the caption.";

/** Return the element of the page with an id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
    const element = document.getElementById(id);
    if (!element) throw new Error(`no element ${id}`);
    return element as T;
}

/** Create an element with a text and a class. */
export function create<K extends keyof HTMLElementTagNameMap>(
    tag: K,
    text = "",
    className = "",
): HTMLElementTagNameMap[K] {
    const element = document.createElement(tag);
    element.textContent = text;
    if (className) element.className = className;
    return element;
}

/** Return a probability in percent, never 0% or 100%. */
export function formatPercent(share: number): string {
    if (share < 0.01) return "under 1%";
    return share > 0.99 ? "over 99%" : `${Math.round(share * 100)}%`;
}

/** Return a number of bytes in megabytes. */
export function formatMegabytes(bytes: number): string {
    return `${(bytes / 1e6).toFixed(0)} MB`;
}

/** Show the best caption and a table of the others. */
export function showCaptions({ captions, lowConfidence, kind }: CaptionResult): void {
    const [best, ...others] = captions;
    const parts: HTMLElement[] = [create("p", best.text, "best"), create("p", confidenceOf(best), "note")];
    const notice = lowConfidence ? LITTLE_SEEN : formatNotice(kind);
    if (notice) parts.push(create("p", notice, "alert"));
    byId("caption").replaceChildren(...parts);
    const rows = others.map(({ text, confidence }) => [text, formatPercent(confidence)]);
    fillTable(byId<HTMLTableElement>("others"), ["Other captions", "Confidence"], rows);
}

/** Return a sentence that warns of an image that is not a photograph; otherwise nothing. */
export function formatNotice(kind?: string): string {
    if (!kind || kind === "photograph") return "";
    const phrases: Record<string, string> = { text: "text", blank: "a blank image" };
    const phrase = phrases[kind] ?? `${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind}`;
    return `This looks like ${phrase}, not a photograph; the caption may be wrong.`;
}

/** Show the answers to a question. */
export function showAnswers(question: string, [best, ...others]: ScoredText[]): void {
    const alternatives = others.slice(0, 2).map(({ text, confidence }) => `${text} (${formatPercent(confidence)})`);
    const more = alternatives.length ? `; other answers: ${alternatives.join(", ")}` : "";
    byId("answer").replaceChildren(
        create("p", question, "note"),
        create("p", best.text, "best"),
        create("p", confidenceOf(best) + more, "note"),
    );
}

/** Fill a table; it is hidden if it has no rows. */
export function fillTable(table: HTMLTableElement, head: string[], rows: string[][]): void {
    const titles = head.map((text) => Object.assign(create("th", text), { scope: "col" }));
    const lines = [titles, ...rows.map((row) => row.map((text) => create("td", text)))].map((cells) => {
        const line = create("tr");
        line.append(...cells);
        return line;
    });
    table.replaceChildren(...lines);
    table.hidden = !rows.length;
}

function confidenceOf({ confidence }: ScoredText): string {
    return `Confidence ${formatPercent(confidence)}`;
}
