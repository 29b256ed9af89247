/** The description of a site's model, `model.json`, which `captioner web` writes. */

import { UserError } from "../errors";
import type { PixelSpec } from "../image/pixels";

export const FORMAT = 1;

/** Size and digest of a file of the site. */
export interface FileEntry {
    bytes: number;
    sha256: string;
}

/** Settings of the search for captions. */
export interface CaptionSettings {
    beams: number;
    max_length: number;
    length_penalty: number;
    length_form: "average" | "gnmt";
    /** Calibration of confidences; null shows the geometric mean of the tokens' probabilities. */
    confidence: { intercept: number; score: number } | null;
}

/** Settings of a search for answers. */
export interface AnswerSettings {
    beams: number;
    max_length: number;
    /** Divides the logits, so that probabilities are calibrated. */
    temperature: number;
    /** The longest question in tokens. */
    max_question: number;
    /** Calibration of confidences; null shows the probability of the model. */
    confidence: { intercept: number; log_odds: number; words: Record<string, number> } | null;
    /** The decoder: `answer`, or `caption` for a model without one of its own. */
    decoder: string;
}

export interface Manifest {
    format: number;
    /** A digest of all files of the site. */
    version: string;
    pixels: PixelSpec;
    lowercase: boolean;
    /** Kinds of images that the graph `memory` recognizes; none in the sites of older models. */
    kinds?: string[];
    captions: CaptionSettings;
    /** Null for a model that does not answer questions. */
    answers: AnswerSettings | null;
    /** Files of the model, by their names in the folder `model`. */
    model: Record<string, FileEntry>;
    /** Files of the page, by their paths. */
    page: Record<string, FileEntry>;
}

/** Return the content of `model.json`; throw a UserError if it is not the description of a site. */
export function parseManifest(text: string): Manifest {
    let manifest: Partial<Manifest>;
    try {
        manifest = JSON.parse(text);
    } catch {
        throw incomplete("it is not JSON");
    }
    if (manifest?.format !== FORMAT) {
        throw incomplete(`it has the format ${manifest?.format}, and this page reads format ${FORMAT}`);
    }
    for (const key of ["pixels", "captions", "model", "page"] as const) {
        if (typeof manifest[key] !== "object" || !manifest[key]) throw incomplete(`it has no ${key}`);
    }
    const graphs = ["image", "memory", "caption", "caption_cross"].map((name) => `${name}.onnx`);
    const missing = [...graphs, "model.safetensors", "tokenizer.json"].find((name) => !manifest.model?.[name]);
    if (missing) throw incomplete(`it names no ${missing}`);
    return manifest as Manifest;
}

function incomplete(reason: string): UserError {
    return new UserError(`model.json does not describe a model of this page: ${reason}. Write the site again.`);
}
