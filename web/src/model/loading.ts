/** Load a site's model: its description, runtime, weights, tokenizer and graphs. */

import { describeError, UserError } from "../errors";
import { Tokenizer } from "../text/tokenizer";
import { Captioner, type Sessions } from "./captioner";
import { deleteOldFiles, fetchFile } from "./download";
import { type Manifest, parseManifest } from "./manifest";
import { type Device, hasGpu, Runtime } from "./runtime";

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
 * @param device Where the image encoder runs; by default the GPU if there is one. If it cannot run there, it runs in
 *     WebAssembly.
 */
export async function loadModel(root: URL, device: Device | null, report: ReportProgress): Promise<LoadedModel> {
    const response = await fetch(new URL("model.json", root)).catch(() => undefined);
    if (!response?.ok) {
        const reason = response ? `status ${response.status}` : "no connection";
        throw new UserError(`model.json cannot be loaded (${reason}); captioner web OUT writes it.`);
    }
    const manifest = parseManifest(await response.text());
    const preferred = device ?? ((await hasGpu()) ? "webgpu" : "wasm");
    try {
        return await loadOn(preferred, root, manifest, report);
    } catch (error) {
        if (preferred === "wasm" || error instanceof UserError) throw error;
        console.warn(`WebGPU cannot be used: ${describeError(error)}`);
        return await loadOn("wasm", root, manifest, report);
    }
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
    const sessions = await createSessions(runtime, files);
    if (device === "webgpu") await tryImage(runtime, sessions, manifest);
    const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(files.get("tokenizer.json"))));
    const captioner = new Captioner(manifest, runtime, tokenizer, sessions);
    return { captioner, info: { device, answersQuestions: manifest.answers !== null, version: manifest.version } };
}

/** Run the image encoder once, which throws an error if the GPU lacks one of its operators. */
async function tryImage(runtime: Runtime, sessions: Sessions, { pixels: spec }: Manifest): Promise<void> {
    const dims = [1, 3, spec.height, spec.width];
    await sessions.image.run({ pixels: runtime.floats(new Float32Array(3 * spec.height * spec.width), dims) });
}

async function createSessions(runtime: Runtime, files: Map<string, Uint8Array>): Promise<Sessions> {
    const weights = files.get("model.safetensors") as Uint8Array;
    const sessions: Sessions = {};
    for (const [file, content] of files) {
        if (!file.endsWith(".onnx")) continue;
        const name = file.slice(0, -".onnx".length);
        const device = name === "image" ? runtime.device : "wasm";
        sessions[name] = await runtime.createSession(name, content, weights, device);
    }
    return sessions;
}
