/** Messages between the page and its worker. */

import type { AttentionResult, CaptionResult } from "./model/captioner";
import type { ScoredText } from "./model/confidence";
import type { ModelInfo } from "./model/loading";
import type { Device } from "./model/runtime";

/** The calls that the worker answers: arguments and result of each. */
export interface Calls {
    load: { argument: { root: string; device: Device | null }; result: ModelInfo };
    caption: { argument: Blob; result: CaptionResult };
    readAttention: { argument: null; result: AttentionResult | null };
    answer: { argument: string; result: ScoredText[] };
}
export type CallName = keyof Calls;

export interface Request<N extends CallName = CallName> {
    id: number;
    name: N;
    argument: Calls[N]["argument"];
}

/** A result or an error of the call `id`, or the progress of `load`. */
export type Reply =
    | { id: number; result: Calls[CallName]["result"] }
    | { id: number; error: string }
    | { loaded: number; total: number };
