/** Captions, answers and attention maps of one image at a time. */

import { UserError } from "../errors";
import { isBlank } from "../image/blank";
import { decodeImage } from "../image/decode";
import { fitImage, normalizePixels, visibleBox } from "../image/pixels";
import type { Box } from "../image/resize";
import { beamSearch, type Hypothesis } from "../search";
import { normalizeQuestion } from "../text/normalize";
import { BOS, splitWords, Tokenizer } from "../text/tokenizer";
import { calibrateAnswers, captionConfidence, type ScoredText } from "./confidence";
import { Decoder, type Memory } from "./decoder";
import type { AnswerSettings, Manifest } from "./manifest";
import type { Runtime, Sessions, Tensors } from "./runtime";

const HIDDEN = -1e9;

/** The captions of an image, best first. */
export interface CaptionResult {
    captions: ScoredText[];
    /** Whether the image is of one color or noise, so that no caption can be right. */
    lowConfidence: boolean;
    /** What the image is, such as `photograph`; undefined if the model does not recognize kinds. */
    kind?: string;
}

/** The attention of each word of the best caption: values from 0 to 1, (rows, columns) over `box`. */
export interface AttentionResult {
    words: { word: string; weights: number[] }[];
    rows: number;
    columns: number;
    /** The part of the image that the model sees, as shares of its width and height. */
    box: Box;
}

/** The present image. */
interface Current {
    memory: Memory;
    best: Hypothesis;
    box: Box;
}

export class Captioner {
    private current?: Current;

    constructor(
        private readonly manifest: Manifest,
        private readonly runtime: Runtime,
        private readonly tokenizer: Tokenizer,
        private readonly sessions: Sessions,
    ) {}

    /** Return the milliseconds that the image encoder takes, without the preparations of its first run. */
    async timeEncoder(): Promise<number> {
        const { height, width } = this.manifest.pixels;
        const pixels = this.runtime.floats(new Float32Array(3 * height * width), [1, 3, height, width]);
        await this.run("image", { pixels });
        const start = performance.now();
        await this.run("image", { pixels });
        return performance.now() - start;
    }

    /** Read an image, which later questions refer to, and return its captions. */
    async caption(file: Blob): Promise<CaptionResult> {
        const spec = this.manifest.pixels;
        this.current = undefined;
        const image = await decodeImage(file);
        const fitted = fitImage(image, spec);
        const lowConfidence = isBlank(image, fitted);
        const box = visibleBox(image.width, image.height, spec);
        image.close();
        const pixels = this.runtime.floats(normalizePixels(fitted, spec), [1, 3, spec.height, spec.width]);
        const { features } = await this.run("image", { pixels });
        const { memory: states, kinds } = await this.run("memory", { features });
        const kind = kinds && mostProbable(kinds.data as Float32Array, this.manifest.kinds ?? []);
        const memory = { states, mask: new Float32Array(states.dims[1]) };
        const { beams, max_length, length_penalty, length_form, confidence } = this.manifest.captions;
        const hypotheses = await beamSearch(await this.decoder("caption").start(memory, 1), {
            beams,
            bos: BOS,
            maxLength: max_length,
            lengthPenalty: length_penalty,
            lengthForm: length_form,
            stop: "heuristic",
        });
        this.current = { memory, best: hypotheses[0], box };
        const captions = hypotheses.map(({ tokens, logprob }) => {
            const score = logprob / tokens.length;
            return { text: this.tokenizer.decode(tokens), confidence: captionConfidence(confidence, score) };
        });
        return { captions, lowConfidence, kind };
    }

    /** Return the answers to a question about the present image, most likely first. */
    async answer(question: string): Promise<ScoredText[]> {
        const { answers } = this.manifest;
        if (!answers) throw new UserError("This model writes captions only; it does not answer questions.");
        if (!this.current) throw new UserError("Choose an image first.");
        const memory = await this.fuse(this.current.memory, this.encodeQuestion(question, answers));
        const hypotheses = await beamSearch(await this.decoder(answers.decoder).start(memory, answers.temperature), {
            beams: answers.beams,
            bos: BOS,
            maxLength: answers.max_length,
            lengthPenalty: 0,
            lengthForm: "average",
            stop: "exact",
        });
        const confidence = new Map<string, number>();
        for (const { tokens, logprob } of hypotheses) {
            const text = this.tokenizer.decode(tokens).trim();
            confidence.set(text, (confidence.get(text) ?? 0) + Math.exp(logprob));
        }
        const probable = Array.from(confidence, ([text, p]) => ({ text, confidence: Math.min(p, 1) })).sort(
            (a, b) => b.confidence - a.confidence,
        );
        return calibrateAnswers(answers.confidence, probable, question);
    }

    /** Return the attention maps of the best caption's words, or null if the memory has no grid of positions. */
    async readAttention(): Promise<AttentionResult | null> {
        if (!this.current) return null;
        const { memory, best, box } = this.current;
        const { height, width } = this.manifest.pixels;
        const positions = memory.mask.length;
        const rows = Math.round(Math.sqrt((positions * height) / width));
        const columns = Math.round(Math.sqrt((positions * width) / height));
        if (rows * columns !== positions) return null;
        const maps = await this.decoder("caption").readAttention(memory, best.tokens);
        const numbers = this.tokenizer.numberWords(best.tokens).slice(0, -1); // without the end mark
        const words = splitWords(this.tokenizer.decode(best.tokens)).map((word, number) => {
            const own = maps.filter((_, i) => numbers[i] === number);
            return { word, weights: averageMaps(own) };
        });
        return { words, rows, columns, box };
    }

    private async run(name: string, inputs: Tensors): Promise<Tensors> {
        return (await this.sessions.get(name)).run(inputs);
    }

    private decoder(name: string): Decoder {
        return new Decoder(this.runtime, this.sessions, name);
    }

    private encodeQuestion(question: string, settings: AnswerSettings): number[] {
        const text = normalizeQuestion(question, this.manifest.lowercase);
        if (!/[\p{L}\p{N}]/u.test(text)) {
            throw new UserError(text ? "The question has no letter and no digit; ask in words." : "Type a question first.");
        }
        const ids = this.tokenizer.encode(text);
        if (ids.length > settings.max_question) {
            throw new UserError(
                `The question has ${ids.length} tokens; this model reads at most ${settings.max_question}. Shorten it.`,
            );
        }
        return ids;
    }

    private async fuse(memory: Memory, question: number[]): Promise<Memory> {
        const { fused, mask } = await this.run("question", {
            memory: memory.states,
            owners: this.runtime.integers([0], [1]),
            questions: this.runtime.integers(question, [1, question.length]),
        });
        const visible = mask ? (mask.data as Uint8Array) : new Uint8Array(fused.dims[1]).fill(1);
        return { states: fused, mask: Float32Array.from(visible, (value) => (value ? 0 : HIDDEN)) };
    }
}

/** Return the name with the largest probability. */
function mostProbable(probabilities: Float32Array, names: string[]): string {
    return names[probabilities.indexOf(Math.max(...probabilities))];
}

/** Return the mean of maps, relative to its largest value. */
function averageMaps(maps: Float32Array[]): number[] {
    const sums = Array.from(maps[0] ?? [], (_, position) => maps.reduce((sum, map) => sum + map[position], 0));
    const largest = Math.max(...sums, Number.MIN_VALUE);
    return sums.map((value) => value / largest);
}
