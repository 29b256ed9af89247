/**
 * Antialiased bicubic resizing, with the arithmetic of Pillow's `Image.resize` for 8 bits per channel.
 *
 * Source: `Resample.c` of Pillow. Weights are fixed-point numbers with 22 bits after the point, and both passes round to
 * 8 bits, so that the result has the same bytes.
 */

/** An RGB image: 3 bytes per pixel, row by row. */
export interface RgbImage {
    width: number;
    height: number;
    data: Uint8Array;
}

/** An image that is read in strips of rows, because a browser holds it as RGBA. */
export interface PixelSource {
    width: number;
    height: number;
    /** Return rows as opaque RGBA: 4 bytes per pixel. */
    readRows(top: number, count: number): Uint8ClampedArray;
}

/** Left, top, right and bottom, in pixels or as shares of the width and height. */
export type Box = [number, number, number, number];

/** A resampling filter: its weight at a distance, and its half width. */
export interface Filter {
    weight: (distance: number) => number;
    support: number;
}

/** For each output position: its first input position, and the weights of the positions from there. */
export type Weights = { first: number; values: number[] }[];

const PRECISION = 22;
const STRIP = 256;

export const BICUBIC: Filter = {
    support: 2,
    weight(distance) {
        const x = Math.abs(distance);
        if (x < 1) return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    },
};

export const BOX: Filter = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };

/** Return the weights of a filter that maps the interval `start` to `end` of `size` positions to `count`. */
export function filterWeights(filter: Filter, size: number, start: number, end: number, count: number): Weights {
    const from = Math.fround(start);
    const scale = Math.fround(Math.fround(end) - from) / count;
    const stretch = Math.max(scale, 1);
    const support = filter.support * stretch;
    return Array.from({ length: count }, (_, i) => {
        const center = from + (i + 0.5) * scale;
        const first = Math.max(0, Math.trunc(center - support + 0.5));
        const last = Math.min(size, Math.trunc(center + support + 0.5));
        const values = [];
        let sum = 0;
        for (let x = first; x < last; x++) {
            const value = filter.weight((x - center + 0.5) * (1 / stretch));
            values.push(value);
            sum += value;
        }
        return { first, values: sum === 0 ? values : values.map((value) => value / sum) };
    });
}

/** Return an image, or the part of it in `box` (in pixels), resized to a width and a height. */
export function resizeBicubic(source: PixelSource, width: number, height: number, box?: Box): RgbImage {
    const [left, top, right, bottom] = box ?? [0, 0, source.width, source.height];
    if (source.height <= 100 * source.width || height >= source.height) {
        return resizeOnce(source, width, height, [left, top, right, bottom]);
    }
    // Pillow reduces the height of a very narrow image first.
    const short = resizeOnce(source, source.width, height, [0, top, source.width, bottom]);
    return resizeOnce(sourceOf(short), width, height, [left, 0, right, height]);
}

function resizeOnce(source: PixelSource, width: number, height: number, [left, top, right, bottom]: Box): RgbImage {
    const columns = filterWeights(BICUBIC, source.width, left, right, width).map(toFixedPoint);
    const rows = filterWeights(BICUBIC, source.height, top, bottom, height).map(toFixedPoint);
    const first = rows[0].first;
    const last = rows[height - 1].first + rows[height - 1].values.length;
    const narrow = new Uint8Array((last - first) * width * 3);
    for (let y = first; y < last; y += STRIP) {
        const count = Math.min(STRIP, last - y);
        resizeRows(source.readRows(y, count), source.width, count, columns, narrow.subarray((y - first) * width * 3));
    }
    return { width, height, data: resizeColumns(narrow, first, width, rows) };
}

/** Return pixels in memory as a source. */
export function sourceOf(image: RgbImage): PixelSource {
    const { width, height, data } = image;
    return {
        width,
        height,
        readRows(top, count) {
            const rgba = new Uint8ClampedArray(width * count * 4).fill(255);
            for (let i = 0, from = top * width * 3; i < rgba.length; i += 4, from += 3) {
                rgba.set(data.subarray(from, from + 3), i);
            }
            return rgba;
        },
    };
}

function toFixedPoint({ first, values }: Weights[number]): { first: number; values: Int32Array } {
    const one = 1 << PRECISION;
    return { first, values: Int32Array.from(values, (v) => Math.trunc((v < 0 ? -0.5 : 0.5) + v * one)) };
}

function resizeRows(
    rgba: Uint8ClampedArray,
    width: number,
    count: number,
    columns: { first: number; values: Int32Array }[],
    target: Uint8Array,
): void {
    let to = 0;
    for (let y = 0; y < count; y++) {
        for (const { first, values } of columns) {
            let from = (y * width + first) * 4;
            let red = 1 << (PRECISION - 1);
            let green = red;
            let blue = red;
            for (let i = 0; i < values.length; i++, from += 4) {
                red += rgba[from] * values[i];
                green += rgba[from + 1] * values[i];
                blue += rgba[from + 2] * values[i];
            }
            target[to++] = toByte(red);
            target[to++] = toByte(green);
            target[to++] = toByte(blue);
        }
    }
}

function resizeColumns(
    narrow: Uint8Array,
    top: number,
    width: number,
    rows: { first: number; values: Int32Array }[],
): Uint8Array {
    const stride = width * 3;
    const target = new Uint8Array(rows.length * stride);
    let to = 0;
    for (const { first, values } of rows) {
        for (let x = 0; x < stride; x++) {
            let sum = 1 << (PRECISION - 1);
            let from = (first - top) * stride + x;
            for (let i = 0; i < values.length; i++, from += stride) sum += narrow[from] * values[i];
            target[to++] = toByte(sum);
        }
    }
    return target;
}

/** Return a fixed-point number as a byte. */
function toByte(sum: number): number {
    const value = sum >> PRECISION;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}
