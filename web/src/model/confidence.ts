/** Calibrated confidences, with the results of `captioner/predict/confidence.py`. */

import { normalizeQuestion } from "../text/normalize";
import type { AnswerSettings, CaptionSettings } from "./manifest";

const SMALLEST = 1e-6;

/** A text with the probability that it is right. */
export interface ScoredText {
    text: string;
    confidence: number;
}

/** Return the probability that a caption with a mean log-probability per token is acceptable. */
export function captionConfidence(model: CaptionSettings["confidence"], score: number): number {
    return model ? logistic(model.intercept + model.score * score) : Math.exp(Math.min(score, 0));
}

/** Return answers, most likely first, whose confidences are probabilities, with calibrated ones. */
export function calibrateAnswers(
    model: AnswerSettings["confidence"],
    [best, ...others]: ScoredText[],
    question: string,
): ScoredText[] {
    if (!model) return [best, ...others];
    const limited = Math.min(Math.max(best.confidence, SMALLEST), 1 - SMALLEST);
    const words = new Set(normalizeQuestion(question, true).split(" "));
    let z = model.intercept + model.log_odds * Math.log(limited / (1 - limited));
    for (const word of words) z += Object.hasOwn(model.words, word) ? model.words[word] : 0;
    const confidence = logistic(z);
    const p = best.confidence;
    const factor = confidence < p ? confidence / p : (1 - confidence) / Math.max(1 - p, SMALLEST);
    const rest = others.map(({ text, confidence: own }) => ({ text, confidence: Math.min(own * factor, confidence) }));
    return [{ text: best.text, confidence }, ...rest];
}

function logistic(z: number): number {
    return 1 / (1 + Math.exp(-z));
}
