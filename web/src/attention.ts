/** Show where the model looked when it wrote a word: a heat map over the image. */

import type { AttentionResult } from "./model/captioner";
import { byId, create } from "./view";

// matplotlib's inferno, whose lightness increases uniformly, so that it is readable with any color blindness.
const COLORS = ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4"];
const INFERNO = COLORS.map((color) => [0, 2, 4].map((at) => parseInt(color.slice(at, at + 2), 16)));
const OPACITY = 0.75;

/** Add a button for each word: pointing at it or focusing it shows its map, and pressing it keeps the map. */
export function addWords(attention: AttentionResult): void {
    let pinned: number | null = null;
    const show = (word: number | null): void => showMap(attention, word ?? pinned);
    const buttons = attention.words.map(({ word }, number) => {
        const button = create("button", word);
        button.type = "button";
        button.ariaPressed = "false";
        button.onpointerenter = button.onfocus = () => show(number);
        button.onpointerleave = button.onblur = () => show(null);
        button.onclick = () => {
            pinned = pinned === number ? null : number;
            buttons.forEach((other, i) => (other.ariaPressed = String(i === pinned)));
            show(pinned);
        };
        return button;
    });
    byId("words").replaceChildren(...buttons);
}

/** Show the map of a word, or the image alone. */
export function showMap(attention: AttentionResult | null, number: number | null): void {
    const canvas = byId<HTMLCanvasElement>("heat");
    const word = number === null ? undefined : attention?.words[number];
    canvas.hidden = !word;
    byId("stage").classList.toggle("mapped", Boolean(word));
    if (!attention || !word) {
        byId("attention-note").textContent = "";
        return;
    }
    const place = describePlace(word.weights, attention.columns);
    byId("attention-note").textContent = `Attention for “${word.word}”: bright places, most at the ${place}.`;
    const [left, top, right, bottom] = attention.box;
    const share = (value: number): string => `${value * 100}%`;
    Object.assign(canvas.style, { left: share(left), top: share(top), width: share(right - left), height: share(bottom - top) });
    canvas.width = attention.columns; // the browser enlarges the cells smoothly
    canvas.height = attention.rows;
    const pixels = new ImageData(attention.columns, attention.rows);
    word.weights.forEach((weight, cell) => pixels.data.set([...colorOf(weight), weight * OPACITY * 255], cell * 4));
    canvas.getContext("2d")?.putImageData(pixels, 0, 0);
}

/** Return the color of a weight from 0 to 1. */
function colorOf(weight: number): number[] {
    const at = weight * (INFERNO.length - 1);
    const low = Math.min(Math.floor(at), INFERNO.length - 2);
    return INFERNO[low].map((channel, i) => channel + (INFERNO[low + 1][i] - channel) * (at - low));
}

/** Name the part of the image with the largest weight, for example "upper left". */
export function describePlace(weights: number[], columns: number): string {
    const cell = weights.indexOf(Math.max(...weights));
    const third = (position: number, count: number): number => Math.floor(((position + 0.5) / count) * 3);
    const row = ["upper", "", "lower"][third(Math.floor(cell / columns), weights.length / columns)];
    const column = ["left", "", "right"][third(cell % columns, columns)];
    return `${row} ${column}`.trim() || "center";
}
