/** Resizing, normalization and the detection of blank images give the same bytes as Python and Pillow. */

import { describe, expect, it } from "vitest";

import { isBlank } from "../src/image/blank";
import { fitImage, normalizePixels, type PixelSpec, visibleBox } from "../src/image/pixels";
import { type Box, type PixelSource, resizeBicubic, sourceOf } from "../src/image/resize";
import { digest, makeImage, readFixture } from "./fixtures";

interface Fixture {
    resizes: { width: number; height: number; toWidth: number; toHeight: number; box: Box | null; digest: string }[];
    pixels: { width: number; height: number; spec: PixelSpec; box: Box; digest: string }[];
    blankSize: [number, number];
    blanks: { kind: string; width: number; height: number; blank: boolean }[];
}
const fixture = readFixture<Fixture>("images");

describe("resizeBicubic", () => {
    it.each(fixture.resizes)("is Pillow's from $width x $height to $toWidth x $toHeight, box $box", (row) => {
        const source = sourceOf(makeImage("noise", row.width, row.height));
        const resized = resizeBicubic(source, row.toWidth, row.toHeight, row.box ?? undefined);
        expect([resized.width, resized.height]).toEqual([row.toWidth, row.toHeight]);
        expect(digest(resized.data)).toBe(row.digest);
    });

    it("reads only the rows that it needs, in strips", () => {
        const image = sourceOf(makeImage("gradient", 20, 2000));
        const read: [number, number][] = [];
        const source: PixelSource = {
            ...image,
            readRows(top, count) {
                read.push([top, count]);
                return image.readRows(top, count);
            },
        };
        resizeBicubic(source, 10, 10, [0, 600, 20, 1400]);
        expect(Math.max(...read.map(([, count]) => count))).toBeLessThanOrEqual(256);
        expect(Math.min(...read.map(([top]) => top))).toBeGreaterThan(400);
        expect(Math.max(...read.map(([top, count]) => top + count))).toBeLessThan(1600);
    });
});

describe("pixels", () => {
    it.each(fixture.pixels)("are those of Python for $width x $height, $spec.resize", ({ width, height, spec, ...row }) => {
        const fitted = fitImage(sourceOf(makeImage("noise", width, height)), spec);
        expect(digest(normalizePixels(fitted, spec))).toBe(row.digest);
        expect(visibleBox(width, height, spec)).toEqual(row.box);
    });
});

describe("isBlank", () => {
    it.each(fixture.blanks)("is $blank for $kind, $width x $height", ({ kind, width, height, blank }) => {
        const [rows, columns] = fixture.blankSize;
        const image = sourceOf(makeImage(kind, width, height));
        expect(isBlank(image, resizeBicubic(image, columns, rows))).toBe(blank);
    });

    it("has both results in the fixture", () => {
        expect(new Set(fixture.blanks.map(({ blank }) => blank)).size).toBe(2);
    });
});
