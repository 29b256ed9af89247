/** Load ONNX Runtime: WebAssembly, with WebGPU for the image encoder where the browser has it. */

import type { InferenceSession, Tensor } from "onnxruntime-web";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import cpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

import { UserError } from "../errors";

type Ort = typeof import("onnxruntime-web");
export type Tensors = Record<string, Tensor>;
export type Device = "webgpu" | "wasm";

const WEIGHTS = "model.safetensors";

/** ONNX Runtime on a device. */
export class Runtime {
    private constructor(
        private readonly ort: Ort,
        /** Where the image encoder runs; the small steps of a search are faster in WebAssembly. */
        readonly device: Device,
    ) {}

    /** Return the URL of the WebAssembly module for a device. */
    static wasmUrl(device: Device): string {
        return device === "webgpu" ? gpuWasm : cpuWasm;
    }

    /**
     * Start the runtime from the content of its WebAssembly module.
     *
     * Where the page is isolated from other origins, it uses half of the logical processors, at most four.
     */
    static async load(device: Device, wasm: Uint8Array<ArrayBuffer>): Promise<Runtime> {
        const ort = device === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
        ort.env.logLevel = "error";
        ort.env.wasm.wasmBinary = wasm.buffer;
        return new Runtime(ort as Ort, device);
    }

    /** Return a session of a graph; throw a UserError if the graph or its weights are damaged. */
    async createSession(name: string, graph: Uint8Array, weights: Uint8Array): Promise<InferenceSession> {
        try {
            return await this.ort.InferenceSession.create(graph, {
                executionProviders: [name === "image" ? this.device : "wasm"],
                externalData: [{ path: WEIGHTS, data: weights }],
            });
        } catch (error) {
            const text = String(error);
            // On a GPU, the graph may be intact and an operator not supported.
            if (this.device === "webgpu" || /memory|bad_alloc/i.test(text)) throw error;
            throw new UserError(`The graph ${name}.onnx cannot be used: ${text.split("\n")[0].slice(0, 200)}`);
        }
    }

    floats(data: Float32Array, dims: number[]): Tensor {
        return new this.ort.Tensor("float32", data, dims);
    }

    integers(values: number[], dims: number[]): Tensor {
        return new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
    }
}

/** The sessions of a model's graphs, which share one file of weights; each is created at its first use. */
export class Sessions {
    private readonly created = new Map<string, Promise<InferenceSession>>();

    /** @param files The content of the model's files, by their names. */
    constructor(
        private readonly runtime: Runtime,
        private readonly files: Map<string, Uint8Array>,
    ) {}

    /** Return the session of a graph, such as `image`. */
    get(name: string): Promise<InferenceSession> {
        const [graph, weights] = [this.files.get(`${name}.onnx`), this.files.get(WEIGHTS)];
        if (!graph || !weights) throw new UserError(`The model has no graph ${name}.onnx. Write the site again.`);
        const session = this.created.get(name) ?? this.runtime.createSession(name, graph, weights);
        this.created.set(name, session);
        return session;
    }
}

/** Return whether the browser offers a GPU to this page, and not an emulation on the CPU. */
export async function hasGpu(): Promise<boolean> {
    interface Adapter {
        isFallbackAdapter?: boolean;
        info?: { isFallbackAdapter?: boolean };
    }
    const gpu = (navigator as { gpu?: { requestAdapter(): Promise<Adapter | null> } }).gpu;
    const adapter = await gpu?.requestAdapter().catch(() => null);
    return Boolean(adapter) && !adapter?.isFallbackAdapter && !adapter?.info?.isFallbackAdapter;
}
