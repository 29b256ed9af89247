/** Sentences of the page are those of Python. */

import { describe, expect, it } from "vitest";

import { formatNotice } from "../src/view";

describe("the notice about an image", () => {
    it.each([
        ["drawing", "a drawing"],
        ["icon", "an icon"],
        ["text", "text"],
        ["blank", "a blank image"],
    ])("names the kind %s", (kind, phrase) => {
        expect(formatNotice(kind)).toBe(`This looks like ${phrase}, not a photograph; the caption may be wrong.`);
    });

    it.each([undefined, "photograph"])("is empty for the kind %s", (kind) => {
        expect(formatNotice(kind)).toBe("");
    });
});
