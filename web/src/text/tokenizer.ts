/** Text to token ids and back, with the results of `captioner/tokenizer.py`. */

import { segmentBpe, segmentUnigram } from "./segment";
import { Vocabulary, type VocabularyFile } from "./vocabulary";

export const PAD = 0;
export const UNK = 1;
export const BOS = 2;
export const EOS = 3;
const SPACE = "\u2581";
// The Python tokenizer escapes the character that stands for a space.
const ESCAPES = [
    ["\x1a", "\x1a0"],
    [SPACE, "\x1a1"],
];

export class Tokenizer {
    private readonly vocabulary: Vocabulary;
    private readonly segment: typeof segmentBpe;

    constructor(file: VocabularyFile) {
        this.vocabulary = new Vocabulary(file);
        this.segment = file.kind === "bpe" ? segmentBpe : segmentUnigram;
    }

    /** Return the token ids of a text and EOS. */
    encode(text: string): number[] {
        const escaped = ESCAPES.reduce((t, [plain, code]) => t.replaceAll(plain, code), text);
        const valid = escaped.replace(/\p{Surrogate}/gu, "\ufffd");
        if (!valid) return [EOS];
        const characters = Array.from(SPACE + valid.replaceAll(" ", SPACE));
        return [...this.segment(characters, this.vocabulary).flatMap((piece) => this.vocabulary.encode(piece)), EOS];
    }

    /** Return the text of the ids up to the first EOS; the special ids are skipped. */
    decode(ids: number[]): string {
        const end = ids.indexOf(EOS);
        const kept = (end < 0 ? ids : ids.slice(0, end)).filter((id) => ![PAD, UNK, BOS].includes(id));
        let text = "";
        let bytes: number[] = [];
        let isStart = true;
        for (const id of kept) {
            const byte = this.vocabulary.byteOf(id);
            if (byte !== undefined) {
                bytes.push(byte);
                continue;
            }
            text += decodeUtf8(bytes);
            bytes = [];
            let piece = this.vocabulary.file.pieces[id];
            if (isStart && !text && piece.startsWith(SPACE)) piece = piece.slice(1);
            isStart = false;
            text += piece.replaceAll(SPACE, " ");
        }
        text += decodeUtf8(bytes);
        return ESCAPES.reduceRight((t, [plain, code]) => t.replaceAll(code, plain), text);
    }

    /** Return the number of the word that each token belongs to, counted from 0. */
    numberWords(ids: number[]): number[] {
        // With a letter appended, a token that is only the space before a word counts as its beginning.
        return ids.map((_, i) => splitWords(`${this.decode(ids.slice(0, i + 1))}x`).length - 1);
    }
}

/** Return the words of a text. */
export function splitWords(text: string): string[] {
    return text.split(/\s+/u).filter(Boolean);
}

/** Decode UTF-8; each byte that is not part of a character becomes U+FFFD, as in SentencePiece. */
function decodeUtf8(bytes: number[]): string {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let text = "";
    for (let at = 0; at < bytes.length; ) {
        const lead = bytes[at];
        const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        try {
            text += decoder.decode(Uint8Array.from(bytes.slice(at, at + length)));
            at += length;
        } catch {
            text += "\ufffd";
            at += 1;
        }
    }
    return text;
}
