/** Decode an image file to upright, opaque pixels on white, as `captioner.images` does in Python. */

import { UserError } from "../errors";
import { damaged, readHeader } from "./header";
import type { PixelSource } from "./resize";

export const MAX_PIXELS = 60e6;
const END_MARKERS: Record<string, number[]> = { JPEG: [0xff, 0xd9], PNG: [0x49, 0x45, 0x4e, 0x44] };

/** Pixels of a decoded image, which the browser holds until `close` is called. */
export interface DecodedImage extends PixelSource {
    close(): void;
}

/**
 * Return the pixels of an image file.
 *
 * The size is checked before the file is decoded. Color profiles are ignored, as in Python. The pixels are read in
 * strips, so that no second copy of the image is made.
 *
 * @throws UserError The format is not supported, the image is too large, or the file is damaged.
 */
export async function decodeImage(file: Blob): Promise<DecodedImage> {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const { format, width, height } = readHeader(bytes);
    if (width * height >= MAX_PIXELS) {
        const megapixels = Math.round((width * height) / 1e6);
        throw new UserError(
            `This image has ${width} × ${height} pixels (${megapixels} megapixels); the limit is ${MAX_PIXELS / 1e6}. Make it smaller first.`,
        );
    }
    // Browsers fill the rest of a truncated image with one color.
    const end = END_MARKERS[format];
    if (end && !includes(bytes, end)) throw damaged(format);
    let bitmap: ImageBitmap;
    try {
        bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
    } catch {
        throw damaged(format);
    }
    return sourceOfBitmap(bitmap);
}

function sourceOfBitmap(bitmap: ImageBitmap): DecodedImage {
    const { width, height } = bitmap;
    return {
        width,
        height,
        readRows(top, count) {
            const canvas = new OffscreenCanvas(width, count);
            const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
            if (!context) throw new UserError("This browser cannot read the pixels of an image; use a newer one.");
            context.fillStyle = "white";
            context.fillRect(0, 0, width, count);
            context.drawImage(bitmap, 0, -top);
            return context.getImageData(0, 0, width, count).data;
        },
        close: () => bitmap.close(),
    };
}

/** Return whether a sequence of bytes occurs, looking from the end. */
function includes(bytes: Uint8Array, sequence: number[]): boolean {
    for (let at = bytes.length - sequence.length; at >= 0; at--) {
        if (bytes[at] === sequence[0] && sequence.every((byte, i) => bytes[at + i] === byte)) return true;
    }
    return false;
}
