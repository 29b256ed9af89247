/**
 * Beam search for one image, with the results of `captioner/decoding`.
 *
 * K is the number of beams and V the size of the vocabulary. Of the 2K most probable continuations of the live
 * hypotheses, the first K that do not end are the new live ones; those that end are finished hypotheses if they are
 * among the first K. The search ends when it has enough finished hypotheses and no live one can score better than the
 * worst of them. With one beam, this is greedy search.
 */

import { EOS } from "./text/tokenizer";

/** A generated sequence: its tokens end in EOS, unless the maximum length was reached. */
export interface Hypothesis {
    tokens: number[];
    /** Sum of the tokens' log-probabilities. */
    logprob: number;
    /** `logprob` after length normalization; hypotheses are ranked by it. */
    score: number;
}

/**
 * Return the log-probabilities (V) of the next token of each row, given the last token of each.
 *
 * Row i continues row `parents[i]` of the previous call. Rows may be fewer than K.
 */
export type Step = (tokens: number[], parents: number[]) => Promise<Float64Array[]>;

export interface SearchOptions {
    beams: number;
    bos: number;
    maxLength: number;
    /** Exponent of the length in the score; 0 leaves the sum as it is. */
    lengthPenalty: number;
    lengthForm: "average" | "gnmt";
    /** Compare live hypotheses at their present length, or at the one that favors them most. */
    stop: "heuristic" | "exact";
}

interface Candidate {
    parent: number;
    token: number;
    logprob: number;
}

/** Return at most K finished hypotheses, best first. */
export async function beamSearch(step: Step, options: SearchOptions): Promise<Hypothesis[]> {
    const { beams, maxLength, lengthPenalty } = options;
    const isExact = options.stop === "exact" && lengthPenalty > 0; // otherwise, a greater length never improves a score
    const score = (logprob: number, length: number): number =>
        logprob / (options.lengthForm === "average" ? length : (5 + length) / 6) ** lengthPenalty;
    let live: Hypothesis[] = [{ tokens: [], logprob: 0, score: 0 }];
    let last = { tokens: [options.bos], parents: [0] };
    let finished: Hypothesis[] = [];
    for (let length = 1; length <= maxLength; length++) {
        const logprobs = await step(last.tokens, last.parents);
        const candidates = selectCandidates(live, logprobs, 2 * beams);
        const extend = ({ parent, token, logprob }: Candidate): Hypothesis => {
            return { tokens: [...live[parent].tokens, token], logprob, score: score(logprob, length) };
        };
        const ends = ({ token }: Candidate): boolean => token === EOS || length === maxLength;
        const ended = candidates.slice(0, beams).filter(ends).map(extend);
        finished = [...finished, ...ended].sort((a, b) => b.score - a.score).slice(0, beams);
        const continued = candidates.filter((candidate) => !ends(candidate)).slice(0, beams);
        live = continued.map(extend);
        last = { tokens: continued.map(({ token }) => token), parents: continued.map(({ parent }) => parent) };
        if (!live.length) break;
        const best = score(live[0].logprob, isExact ? maxLength : length);
        if (finished.length === beams && finished[beams - 1].score >= best) break;
    }
    return finished;
}

/** Return the most probable continuations of live hypotheses, best first. */
function selectCandidates(live: Hypothesis[], logprobs: Float64Array[], count: number): Candidate[] {
    const candidates = logprobs.flatMap((row, parent) =>
        largest(row, count).map((token) => ({ parent, token, logprob: live[parent].logprob + row[token] })),
    );
    return candidates
        .filter(({ logprob }) => logprob > -Infinity)
        .sort((a, b) => b.logprob - a.logprob)
        .slice(0, count);
}

/** Return the indices of the largest values, in descending order. */
function largest(values: Float64Array, count: number): number[] {
    const best: number[] = [];
    for (let i = 0; i < values.length; i++) {
        if (best.length === count && values[i] <= values[best[count - 1]]) continue;
        let place = best.length;
        while (place > 0 && values[best[place - 1]] < values[i]) place--;
        best.splice(place, 0, i);
        if (best.length > count) best.pop();
    }
    return best;
}

/** Return log-probabilities from logits, divided by a temperature, without the tokens that are never generated. */
export function logSoftmax(logits: ArrayLike<number>, temperature: number, excluded: number[]): Float64Array {
    const values = Float64Array.from(logits, (logit) => logit / temperature);
    for (const token of excluded) values[token] = -Infinity;
    const highest = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const total = highest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - highest), 0));
    return values.map((value) => value - total);
}
