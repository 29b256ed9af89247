/** Confidences equal those of the Python package. */

import { expect, test } from "vitest";

import { calibrateAnswers, captionConfidence } from "../src/model/confidence";
import type { AnswerSettings, CaptionSettings } from "../src/model/manifest";
import { readFixture } from "./fixtures";

interface Fixture {
    captions: { model: CaptionSettings["confidence"]; plain: [number, number][]; calibrated: [number, number][] };
    answers: { model: AnswerSettings["confidence"]; calibrated: [string, number[], number[]][] };
}

const { captions, answers } = readFixture<Fixture>("confidences");
const scored = (shares: number[]) => shares.map((confidence, i) => ({ text: `${i}`, confidence }));

test("confidences of captions", () => {
    for (const [score, expected] of captions.plain) expect(captionConfidence(null, score)).toBeCloseTo(expected, 12);
    for (const [score, expected] of captions.calibrated) {
        expect(captionConfidence(captions.model, score)).toBeCloseTo(expected, 12);
    }
});

test("confidences of answers", () => {
    for (const [question, shares, expected] of answers.calibrated) {
        const found = calibrateAnswers(answers.model, scored(shares), question);
        expect(found.map(({ text }) => text)).toEqual(scored(shares).map(({ text }) => text));
        found.forEach(({ confidence }, i) => expect(confidence).toBeCloseTo(expected[i], 12));
        expect(calibrateAnswers(null, scored(shares), question)).toEqual(scored(shares));
    }
});
