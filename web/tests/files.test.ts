/** Errors of image files, of `model.json` and of downloads, each with one clear message. */

import { createHash } from "node:crypto";

import { afterEach, describe, expect, it, vi } from "vitest";

import { describePlace } from "../src/attention";
import { describeError, UserError } from "../src/errors";
import { decodeImage } from "../src/image/decode";
import { readHeader } from "../src/image/header";
import { fetchFile } from "../src/model/download";
import { parseManifest } from "../src/model/manifest";

afterEach(() => vi.unstubAllGlobals());

/** Return the bytes of characters up to U+00FF, and of zeros behind them. */
function bytesOf(text: string, length = 64): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(Math.max(length, text.length));
    Array.from(text, (character, i) => (bytes[i] = character.charCodeAt(0)));
    return bytes;
}

const PNG = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x27\x10\0\0\x17\x70"; // 10,000 x 6,000
const JPEG = "\xff\xd8\xff\xe0\0\x04ab\xff\xc4\0\x02\xff\xff\xc2\0\x0b\x08\0\x07\0\x09";

describe("readHeader", () => {
    it.each([
        ["PNG", PNG, 10000, 6000],
        ["JPEG", JPEG, 9, 7],
        ["GIF", "GIF89a\x05\0\x04\0", 5, 4],
        ["BMP", `BM${"\0".repeat(16)}\x05\0\0\0\xfc\xff\xff\xff`, 5, 4],
        ["WebP", "RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x05\0\x04\0", 5, 4],
        ["WebP", "RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x04\xc0\0\0", 5, 4],
        ["WebP", "RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x04\0\0\x03\0\0", 5, 4],
        ["AVIF", "\0\0\0\x18ftypavif\0\0\0\0\0\0\0\x14ispe\0\0\0\0\0\0\0\x05\0\0\0\x04", 5, 4],
    ])("reads the size of %s", (format, text, width, height) => {
        expect(readHeader(bytesOf(text))).toEqual({ format, width, height });
    });

    it.each([
        ["\0\0\0\x18ftypheic", /HEIC image.*Convert it to JPEG/],
        ["II*\0", /TIFF image\. Expected JPEG, PNG/],
        ["%PDF-1.7", /PDF/],
        ["\n<svg>", /SVG/],
        ["hello", /not a known image/],
    ])("rejects %j", (text, message) => {
        expect(() => readHeader(bytesOf(text))).toThrow(message);
    });

    it("rejects an empty file and a header that ends early", () => {
        expect(() => readHeader(new Uint8Array(0))).toThrow("This file is empty.");
        expect(() => readHeader(bytesOf(JPEG.slice(0, 12), 12))).toThrow(/JPEG file cannot be decoded/);
        expect(() => readHeader(bytesOf("\x89PNG\r\n\x1a\n", 8))).toThrow(/damaged or truncated/);
    });
});

describe("decodeImage", () => {
    it("refuses 60 megapixels before decoding", async () => {
        await expect(decodeImage(new Blob([bytesOf(PNG)]))).rejects.toThrow(
            "This image has 10000 × 6000 pixels (60 megapixels); the limit is 60. Make it smaller first.",
        );
    });

    it("refuses a JPEG without its end", async () => {
        await expect(decodeImage(new Blob([bytesOf(JPEG)]))).rejects.toThrow(/damaged or truncated/);
    });
});

describe("parseManifest", () => {
    const names = ["image.onnx", "memory.onnx", "caption.onnx", "caption_cross.onnx", "model.safetensors", "tokenizer.json"];
    const model = Object.fromEntries(names.map((name) => [name, { bytes: 1, sha256: "" }]));
    const manifest = { format: 1, pixels: {}, captions: {}, model, page: {} };

    it("accepts a complete description", () => {
        expect(parseManifest(JSON.stringify(manifest)).format).toBe(1);
    });

    it.each([
        ["<!doctype html>", /it is not JSON/],
        ["null", /format undefined/],
        [JSON.stringify({ ...manifest, format: 2 }), /format 2, and this page reads format 1/],
        [JSON.stringify({ ...manifest, captions: undefined }), /it has no captions/],
        [JSON.stringify({ ...manifest, model: { ...model, "memory.onnx": undefined } }), /it names no memory\.onnx/],
    ])("rejects %s", (text, message) => {
        expect(() => parseManifest(text)).toThrow(message);
    });
});

describe("fetchFile", () => {
    const content = new Uint8Array([1, 2, 3, 4]);
    const entry = { bytes: 4, sha256: createHash("sha256").update(content).digest("hex") };
    const url = new URL("http://localhost/site/model/image.onnx");
    const serve = (body: Uint8Array<ArrayBuffer> | null, status = 200): unknown =>
        vi.stubGlobal("fetch", async () => new Response(body, { status }));

    it("returns the content and reports the bytes", async () => {
        serve(content);
        let bytes = 0;
        expect(await fetchFile(url, entry, (count) => (bytes += count))).toEqual(content);
        expect(bytes).toBe(4);
    });

    it.each([
        ["a truncated file", content.slice(0, 3), /image\.onnx is incomplete: 3 of 4 bytes/],
        ["a file that is too long", new Uint8Array(5), /image\.onnx is incomplete: 5 of 4 bytes/],
        ["another file", new Uint8Array(4), /image\.onnx is not the one that model\.json describes/],
    ])("rejects %s", async (_, body, message) => {
        serve(body);
        await expect(fetchFile(url, entry, () => undefined)).rejects.toThrow(message);
    });

    it("names the status of a missing file, and a missing connection", async () => {
        serve(null, 404);
        await expect(fetchFile(url, entry, () => undefined)).rejects.toThrow(/status 404/);
        vi.stubGlobal("fetch", () => Promise.reject(new TypeError("failed")));
        await expect(fetchFile(url, entry, () => undefined)).rejects.toThrow(/no connection/);
    });
});

describe("describeError", () => {
    it("shows a message for the user as it is, and others in one line", () => {
        expect(describeError(new UserError("Choose an image."))).toBe("Choose an image.");
        expect(describeError(new Error("x is null\n at line 3"))).toBe("The page has failed (x is null). Reload it and try again.");
    });

    it.each([new RangeError("Array buffer allocation failed"), new Error("std::bad_alloc"), "Out of memory"])(
        "explains that memory is short: %s",
        (error) => expect(describeError(error)).toMatch(/too little memory/),
    );
});

describe("describePlace", () => {
    it.each([
        [0, "upper left"],
        [4, "center"],
        [5, "right"],
        [7, "lower"],
    ])("names cell %i of 3 x 3 as %s", (cell, name) => {
        const weights = Array.from({ length: 9 }, (_, i) => (i === cell ? 1 : 0));
        expect(describePlace(weights, 3)).toBe(name);
    });
});
