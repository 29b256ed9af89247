/** Fit an image to the model's input size and normalize it, as `captioner.images` does in Python. */

import { type Box, type PixelSource, type RgbImage, resizeBicubic } from "./resize";

/** The input format of the model. */
export interface PixelSpec {
    height: number;
    width: number;
    mean: number[];
    std: number[];
    /** Distort the image to the input size (`squash`), or cut its margins (`crop`). */
    resize: "squash" | "crop";
}

/** Return an image at the model's input size. */
export function fitImage(source: PixelSource, spec: PixelSpec): RgbImage {
    const { width, height } = source;
    const isSame = width === spec.width && height === spec.height;
    const box = spec.resize === "crop" && !isSame ? centerBox(width, height, spec.width / spec.height) : undefined;
    return resizeBicubic(source, spec.width, spec.height, box);
}

/** Return the part of an image that the model sees, as shares of its width and height. */
export function visibleBox(width: number, height: number, spec: PixelSpec): Box {
    if (spec.resize === "squash") return [0, 0, 1, 1];
    const [left, top, right, bottom] = centerBox(width, height, spec.width / spec.height);
    return [left / width, top / height, right / width, bottom / height];
}

/** Return (value / 255 - mean) / std of an RGB image as float32, channel by channel: (3, H, W). */
export function normalizePixels(image: RgbImage, spec: PixelSpec): Float32Array {
    const size = image.width * image.height;
    const pixels = new Float32Array(3 * size);
    for (let channel = 0; channel < 3; channel++) {
        const mean = Math.fround(spec.mean[channel]);
        const std = Math.fround(spec.std[channel]);
        const table = Float32Array.from({ length: 256 }, (_, value) => {
            return Math.fround(Math.fround(value / 255) - mean) / std;
        });
        for (let i = 0; i < size; i++) pixels[channel * size + i] = table[image.data[3 * i + channel]];
    }
    return pixels;
}

/** Return the largest centered box of an aspect ratio, in pixels. */
function centerBox(width: number, height: number, aspect: number): Box {
    const w = Math.min(width, height * aspect);
    const h = Math.min(height, width / aspect);
    const left = (width - w) / 2;
    const top = (height - h) / 2;
    return [left, top, left + w, top + h];
}
