/** The worker of the page: it runs the model, so that the page stays responsive. Calls are answered in order. */

import { describeError, UserError } from "./errors";
import type { Request, Reply } from "./messages";
import type { Captioner } from "./model/captioner";
import { loadModel } from "./model/loading";

let captioner: Captioner | undefined;
let queue: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<Request>): void => {
    queue = queue.then(async () => {
        try {
            reply({ id: data.id, result: await run(data) });
        } catch (error) {
            reply({ id: data.id, error: describeError(error) });
        }
    });
};

function reply(message: Reply): void {
    self.postMessage(message);
}

async function run(request: Request): Promise<Extract<Reply, { result: unknown }>["result"]> {
    if (request.name === "load") {
        const { root, device } = request.argument as Request<"load">["argument"];
        const model = await loadModel(new URL(root), device, (loaded, total) => reply({ loaded, total }));
        captioner = model.captioner;
        return model.info;
    }
    if (!captioner) throw new UserError("The model is not loaded; reload the page.");
    if (request.name === "caption") return captioner.caption(request.argument as Blob);
    if (request.name === "answer") return captioner.answer(request.argument as string);
    return captioner.readAttention();
}
