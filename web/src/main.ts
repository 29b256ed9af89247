/** The page: an image from a file, the clipboard, the camera or the examples, its captions, and questions. */

import beach from "../../examples/beach.jpg";
import dog from "../../examples/dog.jpg";
import { addWords, showMap } from "./attention";
import { takePhoto } from "./camera";
import { Client } from "./client";
import { describeError, UserError } from "./errors";
import type { Device } from "./model/runtime";
import { byId, create, fillTable, formatMegabytes, formatPercent, showAnswers, showCaptions } from "./view";

const EXAMPLES = { beach, dog };
const ROOT = new URL("./", location.href);
const DEVICE_NAMES: Record<Device, string> = { webgpu: "the GPU", wasm: "the CPU" };

let client: Client;
let loaded: Promise<unknown>;
let latest = 0; // the number of the latest image: results of earlier ones are not shown
let history: string[][] = [];

async function start(): Promise<void> {
    if (typeof WebAssembly !== "object") {
        throw new UserError("This browser has no WebAssembly, which runs the model. Use a newer browser, or allow WebAssembly.");
    }
    client = new Client(showProgress);
    const device = new URLSearchParams(location.search).get("device") as Device | null;
    const loading = client.call("load", { root: ROOT.href, device });
    loaded = loading;
    connect();
    const info = await loading;
    byId("status").textContent = "The model is ready.";
    byId("progress").hidden = true;
    byId("bytes").hidden = true;
    byId("questions").hidden = !info.answersQuestions;
    byId("device").textContent = `The model runs on ${DEVICE_NAMES[info.device]}.`;
    // The service worker caches the page only now, so that it does not delay the model. The page works without it.
    await navigator.serviceWorker?.register(`service-worker.js?version=${info.version}`).catch(console.warn);
}

function connect(): void {
    const file = byId<HTMLInputElement>("file");
    file.onchange = () => {
        void captionImage(file.files?.[0]);
        file.value = ""; // so that the same file can be chosen again
    };
    byId("camera").onclick = () => void report("caption-error", async () => captionImage(await takePhoto()));
    byId("form").onsubmit = (event) => {
        event.preventDefault();
        void answerQuestion();
    };
    document.onpaste = (event) => void captionImage(event.clipboardData?.files[0]);
    document.ondragover = (event) => {
        event.preventDefault();
        byId("drop").classList.add("over");
    };
    document.ondragleave = () => byId("drop").classList.remove("over");
    document.ondrop = (event) => {
        event.preventDefault();
        byId("drop").classList.remove("over");
        void captionImage(event.dataTransfer?.files[0]);
    };
    for (const [name, url] of Object.entries(EXAMPLES)) addExample(name, url);
}

function addExample(name: string, url: string): void {
    const button = create("button");
    button.type = "button";
    button.append(Object.assign(create("img"), { src: url, alt: "" }), `Try the ${name}`);
    button.onclick = () => void report("caption-error", async () => captionImage(await (await fetch(url)).blob()));
    byId("examples").append(button);
}

/** Show an image and caption it; without one, do nothing. */
async function captionImage(file: Blob | null | undefined): Promise<void> {
    if (!file) return;
    const number = ++latest;
    clearResults();
    showImage(file);
    try {
        await showResults(file, () => number === latest);
    } catch (error) {
        if (number !== latest) return;
        byId("caption").replaceChildren();
        byId("caption-error").textContent = describeError(error);
    }
}

/** Show the captions and attention maps of an image, as long as it is the present one. */
async function showResults(file: Blob, isPresent: () => boolean): Promise<void> {
    byId("caption").replaceChildren(create("p", "Waiting for the model.", "note"));
    await loaded;
    if (!isPresent()) return;
    byId("caption").replaceChildren(create("p", "Captioning the image.", "note"));
    const result = await client.call("caption", file);
    if (!isPresent()) return;
    showCaptions(result);
    byId<HTMLImageElement>("picture").alt = result.captions[0].text;
    const attention = await client.call("readAttention", null);
    if (!isPresent()) return;
    byId("details").hidden = false;
    byId("words-label").hidden = !attention;
    if (attention) addWords(attention);
}

function clearResults(): void {
    history = [];
    byId("caption-error").textContent = "";
    showMap(null, null);
    byId("details").hidden = true;
    byId("words").replaceChildren();
    byId("question-error").textContent = "";
    byId("answer").replaceChildren();
    fillTable(byId<HTMLTableElement>("earlier"), [], []);
}

function showImage(file: Blob): void {
    const picture = byId<HTMLImageElement>("picture");
    URL.revokeObjectURL(picture.src);
    picture.alt = "The chosen image";
    picture.src = URL.createObjectURL(file);
    byId("figure").hidden = true;
    picture.onload = () => (byId("figure").hidden = false);
}

async function answerQuestion(): Promise<void> {
    const input = byId<HTMLInputElement>("question");
    const question = input.value;
    const number = latest;
    await report("question-error", async () => {
        const answers = await client.call("answer", question);
        if (number !== latest) return;
        showAnswers(question, answers);
        fillTable(byId<HTMLTableElement>("earlier"), ["Earlier question", "Answer", "Confidence"], history);
        history = [[question, answers[0].text, formatPercent(answers[0].confidence)], ...history];
        input.value = "";
    });
}

/** Run an action; show its error in a place of the page, or clear that place. */
async function report(place: string, action: () => Promise<void>): Promise<void> {
    byId(place).textContent = "";
    try {
        await action();
    } catch (error) {
        byId(place).textContent = describeError(error);
    }
}

function showProgress(bytes: number, total: number): void {
    const progress = byId<HTMLProgressElement>("progress");
    progress.value = bytes;
    progress.max = total;
    const text = `${formatMegabytes(bytes)} of ${formatMegabytes(total)}`;
    // The bar is announced by itself; a status that changes often would interrupt screen readers.
    progress.ariaValueText = text;
    byId("progress").title = text;
    byId("bytes").textContent = bytes < total ? text : "Preparing the model.";
}

void report("load-error", start).then(() => {
    if (byId("load-error").textContent) byId("loading").hidden = true;
});
