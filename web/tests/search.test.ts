/** Beam search finds the best sequences, compared with an enumeration of all of them. */

import { describe, expect, it } from "vitest";

import { beamSearch, type Hypothesis, logSoftmax, type SearchOptions, type Step } from "../src/search";
import { BOS, EOS } from "../src/text/tokenizer";

const VOCABULARY = 6; // ids 0 to 2 are excluded
const LENGTH = 4;

/** Return the next token's log-probabilities after a prefix: fixed, and different for each prefix and seed. */
function nextLogprobs(prefix: number[], seed: number): Float64Array {
    const logits = Array.from({ length: VOCABULARY }, (_, token) => {
        return 2 * Math.sin([seed, ...prefix, token].reduce((sum, value) => sum * 7.3 + value + 1, 0) ** 2);
    });
    return logSoftmax(logits, 1, [0, 1, 2]);
}

/** Return a `step` that keeps the prefix of each row, as a decoder does. */
function makeStep(seed: number): Step {
    let prefixes: number[][] = [];
    return async (tokens, parents) => {
        prefixes = tokens.map((token, i) => (token === BOS ? [] : [...prefixes[parents[i]], token]));
        return prefixes.map((prefix) => nextLogprobs(prefix, seed));
    };
}

/** Return all sequences, best first. */
function enumerate(seed: number, score: (logprob: number, length: number) => number): Hypothesis[] {
    const visit = (prefix: number[], logprob: number): Hypothesis[] => {
        const logprobs = nextLogprobs(prefix, seed);
        return [3, 4, 5].flatMap((token) => {
            const [tokens, sum] = [[...prefix, token], logprob + logprobs[token]];
            if (token !== EOS && tokens.length < LENGTH) return visit(tokens, sum);
            return [{ tokens, logprob: sum, score: score(sum, tokens.length) }];
        });
    };
    return visit([], 0).sort((a, b) => b.score - a.score);
}

const options: SearchOptions = {
    beams: 100,
    bos: BOS,
    maxLength: LENGTH,
    lengthPenalty: 1,
    lengthForm: "average",
    stop: "exact",
};
const SEEDS = Array.from({ length: 20 }, (_, seed) => seed);

describe("beamSearch", () => {
    it.each(SEEDS)("with a beam for every sequence finds all of them in order (%i)", async (seed) => {
        const found = await beamSearch(makeStep(seed), options);
        const all = enumerate(seed, (logprob, length) => logprob / length);
        expect(found.map(({ tokens }) => tokens)).toEqual(all.map(({ tokens }) => tokens));
        found.forEach(({ logprob }, i) => expect(logprob).toBeCloseTo(all[i].logprob, 12));
    });

    it.each(SEEDS)("scores as Wu et al. and without normalization (%i)", async (seed) => {
        const gnmt = await beamSearch(makeStep(seed), { ...options, lengthForm: "gnmt", lengthPenalty: 0.6 });
        const expected = enumerate(seed, (logprob, length) => logprob / ((5 + length) / 6) ** 0.6);
        expect(gnmt.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
        const plain = await beamSearch(makeStep(seed), { ...options, lengthPenalty: 0 });
        expect(plain[0].tokens).toEqual(enumerate(seed, (logprob) => logprob)[0].tokens);
    });

    it.each(SEEDS)("with one beam takes the most probable token of each step (%i)", async (seed) => {
        const [only, ...others] = await beamSearch(makeStep(seed), { ...options, beams: 1, stop: "heuristic" });
        expect(others).toEqual([]);
        const greedy: number[] = [];
        while (greedy.length < LENGTH && greedy[greedy.length - 1] !== EOS) {
            const logprobs = nextLogprobs(greedy, seed);
            greedy.push(logprobs.indexOf(Math.max(...logprobs)));
        }
        expect(only.tokens).toEqual(greedy);
    });

    it("stops when no live hypothesis can become better", async () => {
        let steps = 0;
        const step: Step = async (tokens) => {
            steps++;
            const logits = steps === 1 ? [0, 0, 0, 9, 8, 0] : [0, 0, 0, 5, 0, 0];
            return tokens.map(() => logSoftmax(logits, 1, [0, 1, 2]));
        };
        const found = await beamSearch(step, { ...options, beams: 1, maxLength: 50, stop: "heuristic" });
        expect(found[0].tokens).toEqual([EOS]);
        expect(steps).toBe(1);
    });
});

describe("logSoftmax", () => {
    it("divides by the temperature and excludes tokens", () => {
        const logprobs = logSoftmax([100, 1, 3, 2], 2, [0]);
        expect(logprobs[0]).toBe(-Infinity);
        expect(Array.from(logprobs.slice(1), Math.exp).reduce((a, b) => a + b)).toBeCloseTo(1, 12);
        expect(logprobs[2] - logprobs[3]).toBeCloseTo(0.5, 12);
    });
});
