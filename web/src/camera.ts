/** Take a photo with the camera. */

import { UserError } from "./errors";
import { byId } from "./view";

/** Return a photo as a file, or null if the user cancels; throw a UserError if there is no camera. */
export async function takePhoto(): Promise<Blob | null> {
    const stream = await openCamera();
    const dialog = byId<HTMLDialogElement>("camera-dialog");
    const video = byId<HTMLVideoElement>("video");
    try {
        video.srcObject = stream;
        dialog.returnValue = "";
        byId("shoot").onclick = () => dialog.close("shoot");
        byId("cancel").onclick = () => dialog.close("");
        dialog.showModal();
        await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
        return dialog.returnValue === "shoot" ? await readFrame(video) : null;
    } finally {
        stream.getTracks().forEach((track) => track.stop());
        video.srcObject = null;
    }
}

async function openCamera(): Promise<MediaStream> {
    if (!navigator.mediaDevices) {
        throw new UserError("The camera can be used only if the page is loaded over HTTPS or from this machine.");
    }
    try {
        return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
        throw new UserError("The camera cannot be used: there is none, or the browser does not allow it.");
    }
}

async function readFrame(video: HTMLVideoElement): Promise<Blob> {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    return canvas.convertToBlob(); // PNG, so that nothing is lost
}
