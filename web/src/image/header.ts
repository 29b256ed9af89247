/** Identify an image file by its first bytes and read its size, before anything is decoded. */

import { UserError } from "../errors";

/** The format of a file, and its size in pixels before it is turned upright. */
export interface Header {
    format: string;
    width: number;
    height: number;
}

type ReadSize = (view: DataView, text: string) => [number, number];

const FORMATS: [string, RegExp, ReadSize][] = [
    ["JPEG", /^\xff\xd8/, readJpegSize],
    ["PNG", /^\x89PNG\r\n\x1a\n/, (view) => [view.getUint32(16), view.getUint32(20)]],
    ["GIF", /^GIF8/, (view) => [view.getUint16(6, true), view.getUint16(8, true)]],
    ["WebP", /^RIFF....WEBP/s, readWebpSize],
    ["BMP", /^BM/, (view) => [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))]],
    ["AVIF", /^....ftyp(?:....){0,15}?avi[fs]/s, readAvifSize],
];
const NAMES = FORMATS.map(([name]) => name).join(", ");
const OTHERS: [string, RegExp][] = [
    ["a HEIC image, which a web page cannot decode. Convert it to JPEG first.", /^....ftyp(?:hei|hev|mif1|msf1)/s],
    [`a TIFF image. Expected ${NAMES}.`, /^(?:II[*+]\0|MM\0[*+])/],
    [`JPEG 2000, JPEG XL or a video. Expected ${NAMES}.`, /^(?:\xff\x4f\xff\x51|....(?:jP  |JXL |ftyp)|\xff\x0a|\x1aE\xdf)/s],
    [`a PDF or PostScript document. Expected ${NAMES}.`, /^%(?:PDF|!PS)/],
    [`HTML, XML or SVG text. Expected ${NAMES}.`, /^(?:\xef\xbb\xbf)?\s*</],
];

/** Return the format and the size of an image file; throw a UserError if it cannot be decoded here. */
export function readHeader(bytes: Uint8Array): Header {
    const text = toCharacters(bytes.subarray(0, 512));
    const known = FORMATS.find(([, signature]) => signature.test(text));
    if (!known) {
        const other = OTHERS.find(([, signature]) => signature.test(text));
        const what = bytes.length ? (other?.[0] ?? `not a known image. Expected ${NAMES}.`) : "empty.";
        throw new UserError(`This file is ${what}`);
    }
    const [format, , readSize] = known;
    try {
        const [width, height] = readSize(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), text);
        if (width > 0 && height > 0) return { format, width, height };
    } catch (error) {
        if (!(error instanceof RangeError)) throw error; // the header ends early
    }
    throw damaged(format);
}

/** Return the error of a file that its format's decoder rejects. */
export function damaged(format: string): UserError {
    return new UserError(`This ${format} file cannot be decoded. It is damaged or truncated; use another copy.`);
}

/** Return one character for each byte; the decoder "latin1" of browsers changes 0x80 to 0x9F. */
function toCharacters(bytes: Uint8Array): string {
    return String.fromCharCode(...bytes);
}

function readJpegSize(view: DataView): [number, number] {
    for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
        while (view.getUint8(at + 1) === 0xff) at++; // fill bytes
        const marker = view.getUint8(at + 1);
        const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
        if (isFrame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
        if (view.getUint8(at) !== 0xff || view.getUint16(at + 2) < 2) return [0, 0];
    }
}

function readWebpSize(view: DataView, text: string): [number, number] {
    const kind = text.slice(12, 16);
    if (kind === "VP8X") return [1 + (view.getUint32(24, true) & 0xffffff), 1 + (view.getUint32(26, true) >>> 8)];
    if (kind === "VP8L") {
        const bits = view.getUint32(21, true);
        return [1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)];
    }
    return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

/** Return the largest size of the images in the file; the property `ispe` holds the size of each. */
function readAvifSize(view: DataView): [number, number] {
    const head = toCharacters(new Uint8Array(view.buffer, view.byteOffset, Math.min(view.byteLength, 2 ** 14)));
    let largest: [number, number] = [0, 0];
    for (const { index } of head.matchAll(/ispe/g)) {
        const size: [number, number] = [view.getUint32(index + 8), view.getUint32(index + 12)];
        if (size[0] * size[1] > largest[0] * largest[1]) largest = size;
    }
    return largest;
}
