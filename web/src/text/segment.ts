/** Split a text into the pieces of a SentencePiece model, as its C++ library does. */

import type { Vocabulary } from "./vocabulary";

const UNKNOWN_PENALTY = 10;

/**
 * Return the segmentation with the highest sum of scores (Viterbi; Kudo, Subword Regularization, 2018).
 *
 * Sums are rounded to float32 as in the C++ library. A character without a piece is a segment of its own.
 */
export function segmentUnigram(characters: string[], vocabulary: Vocabulary): string[] {
    const unknown = Math.fround(vocabulary.lowestScore - UNKNOWN_PENALTY);
    const best = new Array<number>(characters.length + 1).fill(-Infinity);
    const starts = new Array<number>(characters.length + 1).fill(-1);
    best[0] = 0;
    for (let start = 0; start < characters.length; start++) {
        const add = (end: number, score: number): void => {
            const total = score + best[start];
            if (starts[end] >= 0 && total <= best[end]) return;
            best[end] = Math.fround(total);
            starts[end] = start;
        };
        let piece = "";
        const limit = Math.min(characters.length, start + vocabulary.longest);
        for (let end = start + 1; end <= limit; end++) {
            piece += characters[end - 1];
            if (vocabulary.has(piece)) add(end, vocabulary.score(piece));
        }
        if (!vocabulary.has(characters[start])) add(start + 1, unknown);
    }
    const pieces = [];
    for (let end = characters.length; end > 0; end = starts[end]) pieces.push(characters.slice(starts[end], end).join(""));
    return pieces.reverse();
}

/** Merge the adjacent pair with the best score, the leftmost among equals, until none is in the vocabulary. */
export function segmentBpe(characters: string[], vocabulary: Vocabulary): string[] {
    const pieces = [...characters];
    for (;;) {
        let [place, best] = [-1, -Infinity];
        for (let i = 0; i + 1 < pieces.length; i++) {
            const pair = pieces[i] + pieces[i + 1];
            if (vocabulary.has(pair) && vocabulary.score(pair) > best) [place, best] = [i, vocabulary.score(pair)];
        }
        if (place < 0) return pieces;
        pieces.splice(place, 2, pieces[place] + pieces[place + 1]);
    }
}
