/**
 * A decoder of captions or answers, for one image.
 *
 * Shapes: P memory positions, D width, H heads, d = D / H, Q rows, T cached tokens, V vocabulary. The batch size is 1.
 */

import { logSoftmax, type Step } from "../search";
import { BOS, PAD, UNK } from "../text/tokenizer";
import type { Runtime, Sessions, Tensors } from "./runtime";

const HIDDEN = -1e9;
const NEVER_GENERATED = [PAD, UNK, BOS];

/** What a decoder reads of an image or a question: (1, P, D), and which positions it ignores. */
export interface Memory {
    states: Tensors[string];
    /** (1, P): 0, or a large negative number for a position that is ignored. */
    mask: Float32Array;
}

export class Decoder {
    constructor(
        private readonly runtime: Runtime,
        private readonly sessions: Sessions,
        /** The name of its graphs: `caption` or `answer`. */
        private readonly name: string,
    ) {}

    /** Return the keys and values (1, H, P, d) of a memory, and its mask. */
    async readMemory(memory: Memory): Promise<Tensors> {
        const cross = await this.sessions.get(`${this.name}_cross`);
        const pairs = await cross.run({ memory: memory.states });
        return { ...pairs, memory_mask: this.runtime.floats(memory.mask, [1, memory.mask.length]) };
    }

    /** Return the `step` of a search over a memory. */
    async start(memory: Memory, temperature: number): Promise<Step> {
        const session = await this.sessions.get(this.name);
        const fixed = await this.readMemory(memory);
        let cache: Tensors = {};
        for (const input of session.inputMetadata) {
            if (!input.isTensor || !input.name.startsWith("cache_")) continue;
            const [, heads, , depth] = input.shape as number[]; // pruned layers differ in their heads
            cache[input.name] = this.runtime.floats(new Float32Array(0), [1, heads, 0, depth]);
        }
        const caches = Object.keys(cache);
        let cached = 0; // T
        let first = 0; // the cache entry of row 0 of the last call
        let entries: number[][] = [[]]; // of each row of the last call: its cache entries, without its own
        return async (tokens, parents) => {
            if (cached) entries = parents.map((parent) => [...entries[parent], first + parent]);
            const { logits, ...longer } = await session.run({
                ...fixed,
                ...cache,
                tokens: this.runtime.integers(tokens, [1, tokens.length]),
                positions: this.runtime.integers(entries.map((own) => own.length), [1, tokens.length]),
                mask: this.runtime.floats(ancestorMask(entries, cached), [1, tokens.length, cached + tokens.length]),
            });
            cache = Object.fromEntries(caches.map((name) => [name, longer[name.replace("cache", "longer")]]));
            [first, cached] = [cached, cached + tokens.length];
            const size = logits.dims[2];
            const values = logits.data as Float32Array;
            return tokens.map((_, row) =>
                logSoftmax(values.subarray(row * size, (row + 1) * size), temperature, NEVER_GENERATED),
            );
        };
    }

    /** Return the attention (Q, P) of each token of a text, averaged over layers and heads by the graph. */
    async readAttention(memory: Memory, tokens: number[]): Promise<Float32Array[]> {
        const session = await this.sessions.get(`${this.name}_attention`);
        const count = tokens.length;
        const before = tokens.map((_, i) => Array.from({ length: i }, (_, j) => j));
        const input = {
            ...(await this.readMemory(memory)),
            tokens: this.runtime.integers([BOS, ...tokens.slice(0, -1)], [1, count]),
            positions: this.runtime.integers(before.map((own) => own.length), [1, count]),
            mask: this.runtime.floats(ancestorMask(before, 0), [1, count, count]),
        };
        const used = Object.fromEntries(session.inputNames.map((name) => [name, input[name as keyof typeof input]]));
        const { weights } = await session.run(used);
        const [values, size] = [weights.data as Float32Array, weights.dims[2]];
        return tokens.map((_, row) => values.subarray(row * size, (row + 1) * size));
    }
}

/** Return the mask (Q, T + Q): each row attends to its entries and to itself. */
function ancestorMask(entries: number[][], cached: number): Float32Array {
    const width = cached + entries.length;
    const mask = new Float32Array(entries.length * width).fill(HIDDEN);
    entries.forEach((own, row) => {
        for (const entry of [...own, cached + row]) mask[row * width + entry] = 0;
    });
    return mask;
}
