// Pictures and files: made ready to send (shrunk where that helps), and turned into something to look at or keep.

import { Refusal } from "./connection.js";

/** Shown inline. No SVG: opened by itself it could run scripts. */
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"]);
const SHRINKABLE = new Set(["image/png", "image/jpeg", "image/webp", "image/avif"]);
const SHRINK_STEPS = [[2048, 0.85], [1600, 0.8], [1200, 0.75], [900, 0.7]]; // longest side in pixels, JPEG quality

export const isPicture = (file) => PICTURES.has(file.type);

export function sizeText(bytes) {
  if (bytes < 1_000) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  if (bytes < 1_000_000) return `${Math.round(bytes / 1_000)} KB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

/** A chosen file, ready to send: `{ name, type, size, data: ArrayBuffer }`. Pictures over the limit are made smaller. */
export async function prepare(file, limit) {
  if (file.size > limit && SHRINKABLE.has(file.type)) {
    const smaller = await shrink(file, limit);
    if (smaller) {
      const name = file.name.replace(/\.[^.]*$/, "") + ".jpg";
      return { name, type: "image/jpeg", size: smaller.size, data: await smaller.arrayBuffer() };
    }
  }
  if (file.size > limit) {
    throw new Refusal("file_too_big", `“${file.name}” has ${sizeText(file.size)}. Files can have up to ${sizeText(limit)}.`);
  }
  let data;
  try {
    data = await file.arrayBuffer();
  } catch {
    throw new Refusal("file_unreadable", `“${file.name}” can’t be read. Is it a folder?`);
  }
  if (data.byteLength === 0) throw new Refusal("file_empty", `“${file.name}” is empty.`);
  return { name: file.name, type: file.type || "application/octet-stream", size: data.byteLength, data };
}

async function shrink(file, limit) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null; // not a picture after all
  }
  try {
    for (const [side, quality] of SHRINK_STEPS) {
      const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
      if (blob && blob.size <= limit) return blob;
    }
    return null;
  } finally {
    bitmap.close();
  }
}

/** An address for the bytes. What isn't a picture gets a type that no browser opens in place. */
export function addressOf(file, data) {
  return URL.createObjectURL(new Blob([data], { type: isPicture(file) ? file.type : "application/octet-stream" }));
}
