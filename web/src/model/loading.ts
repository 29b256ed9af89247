/** Load a site's model: its description, runtime, weights, tokenizer and graphs. */

import { UserError } from "../errors";
import { Tokenizer } from "../text/tokenizer";
import { Captioner } from "./captioner";
import { deleteOldFiles, fetchFile } from "./download";
import { type Manifest, parseManifest } from "./manifest";
import { type Device, hasGpu, Runtime, Sessions } from "./runtime";

/** The graphs of the first caption; the others are prepared when they are needed. */
const FIRST_GRAPHS = ["image", "memory", "caption_cross", "caption"];
/** Milliseconds for one image above which a GPU is not used, because a CPU is faster. */
const SLOW_GPU = 1000;

/** Called with the bytes that have arrived and the bytes in all. */
export type ReportProgress = (loaded: number, total: number) => void;
/** What the page needs to know of the model. */
export interface ModelInfo {
    /** Where the image encoder runs. */
    device: Device;
    answersQuestions: boolean;
    /** A digest of all files of the site. */
    version: string;
}

export interface LoadedModel {
    captioner: Captioner;
    info: ModelInfo;
}

/**
 * Load the model of a site.
 *
 * @param root The address of the site.
 * @param device Where the image encoder runs; by default the GPU, if there is one that can run it and is not slow.
 */
export async function loadModel(root: URL, device: Device | null, report: ReportProgress): Promise<LoadedModel> {
    const response = await fetch(new URL("model.json", root)).catch(() => undefined);
    if (!response?.ok) {
        const reason = response ? `status ${response.status}` : "no connection";
        throw new UserError(`model.json cannot be loaded (${reason}); captioner web OUT writes it.`);
    }
    const manifest = parseManifest(await response.text());
    if (!device && (await hasGpu())) {
        try {
            const model = await loadOn("webgpu", root, manifest, report);
            const milliseconds = await model.captioner.timeEncoder();
            if (milliseconds < SLOW_GPU) return model;
            console.warn(`WebGPU is not used: an image takes ${milliseconds.toFixed(0)} ms`);
        } catch (error) {
            if (error instanceof UserError) throw error;
            console.warn("WebGPU cannot be used:", error);
        }
    }
    return loadOn(device ?? "wasm", root, manifest, report);
}

async function loadOn(device: Device, root: URL, manifest: Manifest, report: ReportProgress): Promise<LoadedModel> {
    const wasmUrl = new URL(Runtime.wasmUrl(device), root);
    const wasmEntry = manifest.page[wasmUrl.pathname.slice(root.pathname.length)];
    if (!wasmEntry) throw new UserError("model.json does not name the files of this page. Write the site again.");
    const entries = Object.values(manifest.model);
    const total = [...entries, wasmEntry].reduce((sum, entry) => sum + entry.bytes, 0);
    let loaded = 0;
    const progress = (bytes: number): void => report((loaded += bytes), total);
    const [wasm, ...contents] = await Promise.all([
        fetchFile(wasmUrl, wasmEntry, progress),
        ...Object.entries(manifest.model).map(([name, entry]) =>
            fetchFile(new URL(`model/${name}`, root), entry, progress),
        ),
    ]);
    void deleteOldFiles([...entries, ...Object.values(manifest.page)]);
    const files = new Map(Object.keys(manifest.model).map((name, i) => [name, contents[i]]));
    const runtime = await Runtime.load(device, wasm);
    const sessions = new Sessions(runtime, files);
    for (const name of FIRST_GRAPHS) await sessions.get(name);
    const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(files.get("tokenizer.json"))));
    const captioner = new Captioner(manifest, runtime, tokenizer, sessions);
    return { captioner, info: { device, answersQuestions: manifest.answers !== null, version: manifest.version } };
}
