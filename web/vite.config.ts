/** Build the page and its service worker; addresses are relative, so that the site works in any folder of a host. */

import { defineConfig } from "vitest/config";

export default defineConfig({
    base: "./",
    worker: { format: "es" },
    build: {
        target: "es2022",
        assetsInlineLimit: 0, // the Content-Security-Policy allows no data: addresses
        modulePreload: { polyfill: false },
        rollupOptions: {
            input: { index: "index.html", "service-worker": "src/service-worker.ts" },
            output: {
                // The browser finds updates of a service worker by its address, which must not change.
                entryFileNames: ({ name }) => (name === "service-worker" ? "[name].js" : "assets/[name]-[hash].js"),
            },
        },
    },
    test: { include: ["tests/**/*.test.ts"] },
});
