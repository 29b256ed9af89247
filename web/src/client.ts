/** Call the worker from the page. */

import { UserError } from "./errors";
import type { CallName, Calls, Reply } from "./messages";

type Result = Calls[CallName]["result"];

export class Client {
    private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    private readonly waiting = new Map<number, { resolve: (result: Result) => void; reject: (error: Error) => void }>();
    private count = 0;

    /** @param onProgress Called with the bytes of the model that have arrived and the bytes in all. */
    constructor(onProgress: (loaded: number, total: number) => void) {
        this.worker.onmessage = ({ data }: MessageEvent<Reply>): void => {
            if ("total" in data) {
                onProgress(data.loaded, data.total);
                return;
            }
            const call = this.waiting.get(data.id);
            this.waiting.delete(data.id);
            if ("error" in data) call?.reject(new UserError(data.error));
            else call?.resolve(data.result);
        };
        this.worker.onerror = ({ message }): void => {
            for (const call of this.waiting.values()) call.reject(new Error(message ?? "a file of the page is missing"));
            this.waiting.clear();
        };
    }

    /** Return the result of a call; throw its error. */
    call<N extends CallName>(name: N, argument: Calls[N]["argument"]): Promise<Calls[N]["result"]> {
        return new Promise((resolve, reject) => {
            const id = this.count++;
            this.waiting.set(id, { resolve: resolve as (result: Result) => void, reject });
            this.worker.postMessage({ id, name, argument });
        });
    }
}
