/** Detect images of one color and white noise, by the rules of `captioner/images/resize.py`. */

import { BOX, filterWeights, type PixelSource, resizeBicubic, type RgbImage } from "./resize";

const MIN_STDDEV = 1;
const MAX_BLOCK_VARIANCE = 4;
const MAX_CORRELATION = 0.6;
const BLOCKS = 8;

/** Return whether an image, which `fitted` shows at the model's input size, has no recognizable content. */
export function isBlank(source: PixelSource, fitted: RgbImage): boolean {
    const width = Math.min(source.width, fitted.width);
    const height = Math.min(source.height, fitted.height);
    const isSame = width === fitted.width && height === fitted.height;
    const image = isSame ? fitted : resizeBicubic(source, width, height);
    const size = width * height;
    const channels = [0, 1, 2].map((channel) => Uint8Array.from({ length: size }, (_, i) => image.data[3 * i + channel]));
    if (Math.max(...channels.map((values) => Math.sqrt(variance(values)))) < MIN_STDDEV) return true;
    const [red, green, blue] = channels;
    const gray = red.map((_, i) => (red[i] * 19595 + green[i] * 38470 + blue[i] * 7471 + 0x8000) >> 16);
    const total = variance(gray) + 1e-6;
    const blocks = variance(blockMeans(gray, width, height));
    if (blocks / total > (MAX_BLOCK_VARIANCE * BLOCKS ** 2) / gray.length) return false;
    const steps = [squaredStep(gray, width, height, 1, 0), squaredStep(gray, width, height, 0, 1)];
    return steps.every((step) => Number.isNaN(step) || Math.abs(1 - step / (2 * total)) < MAX_CORRELATION);
}

function variance(values: ArrayLike<number>): number {
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < values.length; i++) {
        sum += values[i];
        squares += values[i] ** 2;
    }
    return Math.max(0, (squares - sum ** 2 / values.length) / values.length);
}

/** Return the means of 8 x 8 blocks that cover the image. */
function blockMeans(gray: Uint8Array, width: number, height: number): number[] {
    const columns = filterWeights(BOX, width, 0, width, BLOCKS);
    const rows = filterWeights(BOX, height, 0, height, BLOCKS);
    return rows.flatMap((row) =>
        columns.map((column) => {
            let mean = 0;
            row.values.forEach((a, y) =>
                column.values.forEach((b, x) => {
                    mean += a * b * gray[(row.first + y) * width + column.first + x];
                }),
            );
            return mean;
        }),
    );
}

/** Return the mean squared difference of each pixel and the one that lies `dx`, `dy` from it; NaN if there is none. */
function squaredStep(gray: Uint8Array, width: number, height: number, dx: number, dy: number): number {
    let sum = 0;
    for (let y = dy; y < height; y++) {
        for (let x = dx; x < width; x++) sum += (gray[y * width + x] - gray[(y - dy) * width + x - dx]) ** 2;
    }
    return sum / ((width - dx) * (height - dy));
}
