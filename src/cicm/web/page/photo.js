// A photo as the page holds it: the file as it is, and a bitmap to show.

import { Problem, send } from "./api.js";
import { checkKind } from "./kinds.js";

const SMALL = 4e6; // pixels of the picture that is drawn while zoomed out

export class Photo {
  constructor(blob, name, width, height, bitmap) {
    this.blob = blob;
    this.name = name;
    this.width = width;
    this.height = height;
    this.bitmap = bitmap; // may be smaller than the photo
    this.small = null;
  }

  /** Reads a file; asks the server for a picture where the browser can't show the format. */
  static async open(blob, name, limits, formats) {
    if (blob.size === 0) throw new Problem(`${name} is empty. Choose another file.`);
    if (limits && blob.size > limits.max_bytes - 65536) {
      throw new Problem(
        `${name} has ${megabytes(blob.size)}; this server takes up to ${megabytes(limits.max_bytes)}. Save it smaller, or cut out the part to repair.`,
      );
    }
    await checkKind(blob, name, formats);
    let photo;
    try {
      const bitmap = await createImageBitmap(blob);
      photo = new Photo(blob, name, bitmap.width, bitmap.height, bitmap);
    } catch {
      const shown = await send("/api/v1/preview", { image: blob });
      const bitmap = await createImageBitmap(shown.blob);
      photo = new Photo(blob, name, Number(shown.header("Cicm-Width")), Number(shown.header("Cicm-Height")), bitmap);
    }
    if (limits && photo.width * photo.height > limits.max_pixels) {
      throw new Problem(
        `${name} has ${(photo.width * photo.height / 1e6).toFixed(0)} megapixels; this server takes up to ${(limits.max_pixels / 1e6).toFixed(0)}. Reduce it, or cut out the part to repair.`,
      );
    }
    const pixels = photo.bitmap.width * photo.bitmap.height;
    if (pixels > 2 * SMALL) {
      const factor = Math.sqrt(SMALL / pixels);
      photo.small = await createImageBitmap(photo.bitmap, {
        resizeWidth: Math.max(1, Math.round(photo.bitmap.width * factor)),
        resizeHeight: Math.max(1, Math.round(photo.bitmap.height * factor)),
        resizeQuality: "high",
      });
    }
    return photo;
  }

  /** The bitmap that is fine enough for a scale of screen pixels per photo pixel. */
  at(scale) {
    return this.small && scale * this.width <= this.small.width ? this.small : this.bitmap;
  }

  /** Bytes of a mask from this photo's picture: white and opaque = fill. In strips: large canvases have limits. */
  toMask() {
    const { width, height } = this;
    const bytes = new Uint8Array(width * height);
    const strip = Math.max(1, Math.min(height, Math.floor(4e6 / width)));
    const canvas = new OffscreenCanvas(width, strip);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < height; top += strip) {
      const rows = Math.min(strip, height - top);
      context.clearRect(0, 0, width, strip);
      context.drawImage(this.bitmap, 0, top, width, rows, 0, 0, width, rows);
      const { data } = context.getImageData(0, 0, width, rows);
      for (let i = 0, at = top * width; i < data.length; i += 4, at++) {
        const luma = (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
        bytes[at] = luma >= 128 && data[i + 3] >= 128 ? 1 : 0;
      }
    }
    return bytes;
  }

  close() {
    this.bitmap.close();
    this.small?.close();
  }
}

export const megabytes = (bytes) => (bytes >= 1e6 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${Math.ceil(bytes / 1024)} KiB`);
