/**
 * The service worker: the page without a connection, and threads on any static host.
 *
 * Files of the page are stored when a version of the site is installed. Files with a digest in their address (`sha256`)
 * are stored by the page's worker. All responses get the headers without which browsers allow no threads.
 */

export {};

const worker = self as unknown as ServiceWorkerGlobalScope;
const CACHE = "captioner";
const ROOT = worker.registration.scope;

worker.addEventListener("install", (event) => {
    event.waitUntil(storePage().then(() => worker.skipWaiting()));
});

worker.addEventListener("activate", (event) => {
    event.waitUntil(deleteOldPages().then(() => worker.clients.claim()));
});

worker.addEventListener("fetch", (event) => {
    const { request } = event;
    const url = new URL(request.url);
    if (request.method !== "GET" || !url.href.startsWith(ROOT) || url.searchParams.has("sha256")) return;
    event.respondWith(respond(request));
});

async function storePage(): Promise<void> {
    const cache = await caches.open(CACHE);
    await cache.addAll((await pageFiles()).map((url) => new Request(url, { cache: "no-cache" })));
}

async function deleteOldPages(): Promise<void> {
    const cache = await caches.open(CACHE);
    const current = new Set(await pageFiles());
    for (const { url } of await cache.keys()) {
        if (!new URL(url).searchParams.has("sha256") && !current.has(url)) await cache.delete(url);
    }
}

/** Return the addresses of the files of the page, without the large ones that its worker stores. */
async function pageFiles(): Promise<string[]> {
    const address = new URL("model.json", ROOT);
    const response = await fetch(address, { cache: "no-cache" }).catch(() => caches.match(address));
    const { page } = (await response?.json()) as { page: Record<string, unknown> };
    const names = Object.keys(page).filter((name) => !name.endsWith(".wasm"));
    return ["model.json", ...names].map((name) => new URL(name === "index.html" ? "./" : name, ROOT).href);
}

/** Files with a digest in their names come from the cache; others from the network if there is a connection. */
async function respond(request: Request): Promise<Response> {
    const cache = await caches.open(CACHE);
    const cached = await cache.match(request.mode === "navigate" ? ROOT : request);
    if (cached && request.url.startsWith(new URL("assets/", ROOT).href)) return isolate(cached);
    const response = await fetch(request).catch(() => cached);
    return response ? isolate(response) : Response.error();
}

/** Return a response with the headers of a page that is isolated from other origins. */
function isolate(response: Response): Response {
    const headers = new Headers(response.headers);
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    headers.set("Cross-Origin-Embedder-Policy", "require-corp");
    const { status, statusText } = response;
    return new Response(response.body, { status, statusText, headers });
}
