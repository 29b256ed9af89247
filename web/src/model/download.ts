/** Fetch the files of a site, check them against their digests, and keep them for use without a connection. */

import { UserError } from "../errors";
import type { FileEntry } from "./manifest";

/** The store of the files, which the service worker shares. */
export const CACHE = "captioner";

/** Called with the number of bytes that have arrived since the last call. */
export type Progress = (bytes: number) => void;

/** Return the content of a file of the site, from the cache if it is there. */
export async function fetchFile(url: URL, entry: FileEntry, progress: Progress): Promise<Uint8Array<ArrayBuffer>> {
    const versioned = new URL(url);
    versioned.searchParams.set("sha256", entry.sha256.slice(0, 16));
    // Browsers offer neither caches nor digests to pages that are not loaded over HTTPS or from this machine.
    const cache = globalThis.caches ? await caches.open(CACHE) : undefined;
    const cached = await cache?.match(versioned);
    if (cached) {
        const content = new Uint8Array(await cached.arrayBuffer());
        progress(content.length);
        return content;
    }
    const content = await download(versioned, entry, progress);
    const name = url.pathname.split("/").pop();
    if (content.length !== entry.bytes) {
        throw new UserError(
            `The file ${name} is incomplete: ${content.length} of ${entry.bytes} bytes have arrived. Reload the page; if that does not help, write the site again.`,
        );
    }
    if (crypto.subtle && toHex(await crypto.subtle.digest("SHA-256", content)) !== entry.sha256) {
        throw new UserError(`The file ${name} is not the one that model.json describes. Write the site again.`);
    }
    // Nothing waits for the cache. If it has no space, the file is fetched again at the next visit.
    void cache?.put(versioned, new Response(content)).catch(() => undefined);
    return content;
}

/** Delete the cached versions of files that the site no longer has. */
export async function deleteOldFiles(entries: FileEntry[]): Promise<void> {
    if (!globalThis.caches) return;
    const cache = await caches.open(CACHE);
    const digests = new Set(entries.map((entry) => entry.sha256.slice(0, 16)));
    for (const request of await cache.keys()) {
        const digest = new URL(request.url).searchParams.get("sha256");
        if (digest && !digests.has(digest)) await cache.delete(request);
    }
}

async function download(url: URL, entry: FileEntry, progress: Progress): Promise<Uint8Array<ArrayBuffer>> {
    const response = await fetch(url).catch(() => undefined);
    if (!response?.ok || !response.body) {
        const reason = response ? `status ${response.status}` : "no connection";
        throw new UserError(`The file ${url.pathname.split("/").pop()} cannot be loaded (${reason}). Reload the page.`);
    }
    const content = new Uint8Array(entry.bytes);
    let length = 0;
    const reader = response.body.getReader();
    for (;;) {
        let chunk;
        try {
            chunk = await reader.read();
        } catch {
            break; // the connection is interrupted: the file is incomplete
        }
        if (chunk.done) break;
        if (length + chunk.value.length <= content.length) content.set(chunk.value, length);
        length += chunk.value.length;
        progress(chunk.value.length);
    }
    return length < content.length ? content.subarray(0, length) : length > content.length ? new Uint8Array(length) : content;
}

function toHex(digest: ArrayBuffer): string {
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
