/** Load ONNX Runtime: WebAssembly, with WebGPU for the image encoder where the browser has it. */

import type { InferenceSession, Tensor } from "onnxruntime-web";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import cpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

import { UserError } from "../errors";

type Ort = typeof import("onnxruntime-web");
export type Tensors = Record<string, Tensor>;
export type Device = "webgpu" | "wasm";

const WEIGHTS = "model.safetensors";

/** Creates sessions of graphs whose weights are in one file. */
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

    /** Start the runtime from the content of its WebAssembly module. */
    static async load(device: Device, wasm: Uint8Array<ArrayBuffer>): Promise<Runtime> {
        const ort = device === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
        ort.env.logLevel = "error";
        ort.env.wasm.wasmBinary = wasm.buffer;
        ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
        return new Runtime(ort as Ort, device);
    }

    /** Return a session of a graph; throw a UserError if the graph or its weights are damaged. */
    async createSession(
        name: string,
        graph: Uint8Array,
        weights: Uint8Array,
        device: Device = "wasm",
    ): Promise<InferenceSession> {
        try {
            return await this.ort.InferenceSession.create(graph, {
                executionProviders: [device],
                externalData: [{ path: WEIGHTS, data: weights }],
            });
        } catch (error) {
            const text = String(error);
            if (/memory|bad_alloc/i.test(text)) throw error;
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

/** Return whether the browser offers a GPU to this page. */
export async function hasGpu(): Promise<boolean> {
    const gpu = (navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
    const adapter = await gpu?.requestAdapter().catch(() => null);
    return Boolean(adapter);
}
