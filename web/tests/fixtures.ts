/** Results of the Python package, which `python tests/web_fixtures.py` writes. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import type { RgbImage } from "../src/image/resize";

export function readFixture<T>(name: string): T {
    return JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), "utf-8"));
}

export function digest(data: ArrayBufferView): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

/** Return the same image as `make_image` in Python. */
export function makeImage(kind: string, width: number, height: number): RgbImage {
    const data = new Uint8Array(width * height * 3);
    let state = width * 1000 + height;
    for (let i = 0; i < data.length; i++) {
        const x = Math.floor(i / 3) % width;
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        const values: Record<string, number> = { noise: state >>> 24, flat: 200, steps: (x * 2) / width, gradient: (x * 255) / width };
        data[i] = Math.floor(values[kind]);
    }
    return { width, height, data };
}
