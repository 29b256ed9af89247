/** Tokens and normalized questions are those of Python. */

import { describe, expect, it } from "vitest";

import { normalizeQuestion } from "../src/text/normalize";
import { EOS, Tokenizer } from "../src/text/tokenizer";
import type { VocabularyFile } from "../src/text/vocabulary";
import { readFixture } from "./fixtures";

interface Fixture {
    file: VocabularyFile;
    encoded: [string, number[]][];
    decoded: [number[], string][];
}

describe.each(["unigram", "bpe"])("a tokenizer of the kind %s", (kind) => {
    const { file, encoded, decoded } = readFixture<Fixture>(kind);
    const tokenizer = new Tokenizer(file);

    it.each(encoded)("encodes %j as in Python", (text, ids) => {
        expect(tokenizer.encode(text)).toEqual(ids);
    });

    it.each(decoded)("decodes %j as in Python", (ids, text) => {
        expect(tokenizer.decode(ids)).toBe(text);
    });

    it("restores every text", () => {
        for (const [text] of encoded) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    });

    it("replaces lone surrogates", () => {
        expect(tokenizer.encode("a\ud800")).toEqual(tokenizer.encode("a\ufffd"));
    });

    it("numbers words by the spaces before them", () => {
        const ids = tokenizer.encode("a dog runs");
        const numbers = tokenizer.numberWords(ids);
        expect(numbers[0]).toBe(0);
        expect(numbers[numbers.length - 1]).toBe(2);
        for (const number of [0, 1, 2]) {
            const own = ids.filter((id, i) => numbers[i] === number && id !== EOS);
            expect(tokenizer.decode(own).trim()).toBe(["a", "dog", "runs"][number]);
        }
    });
});

describe("normalizeQuestion", () => {
    it.each(readFixture<string[][]>("questions"))("changes %j as in Python", (text, lower, same) => {
        expect(normalizeQuestion(text, true)).toBe(lower);
        expect(normalizeQuestion(text, false)).toBe(same);
    });
});
