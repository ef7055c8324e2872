// What a file is, by its own bytes: refused when it is opened, not when it is repaired. The server looks again.

import { Problem } from "./api.js";

const text = (bytes, start, length) => String.fromCharCode(...bytes.subarray(start, start + length));

/** Throws for a format that the server does not open, and for an animation. */
export async function checkKind(blob, name, formats) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const kind = kindOf(bytes);
  if (kind && formats && !formats.includes(kind)) {
    const known = formats.map((format) => format.toUpperCase()).join(", ");
    throw new Problem(`${name} is ${kind.toUpperCase()}, which this server does not open. It opens ${known}. Save the photo as one of these.`);
  }
  if (isAnimated(bytes, kind)) {
    throw new Problem(`${name} is an animation. Only single pictures can be repaired. Save one frame as PNG or JPEG.`);
  }
}

/** The format as Pillow calls it, in small letters; "" if it is none that browsers show. */
function kindOf(bytes) {
  const start = text(bytes, 0, 4);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "jpeg";
  if (start === "\x89PNG") return "png";
  if (start === "GIF8") return "gif";
  if (start === "RIFF" && text(bytes, 8, 4) === "WEBP") return "webp";
  if (start === "II*\0" || start === "MM\0*") return "tiff";
  if (start.startsWith("BM")) return "bmp";
  if (start === "\0\0\x01\0") return "ico";
  if (text(bytes, 4, 4) === "ftyp") return /^avi[fs]$/.test(text(bytes, 8, 4)) ? "avif" : "heif";
  return "";
}

function isAnimated(bytes, kind) {
  if (kind === "gif") return countFrames(bytes) > 1;
  if (kind === "webp") return text(bytes, 12, 4) === "VP8X" && (bytes[20] & 2) !== 0;
  if (kind === "avif") return text(bytes, 8, 4) === "avis";
  if (kind !== "png") return false;
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 8 <= bytes.length; at += 12 + view.getUint32(at)) {
    const chunk = text(bytes, at + 4, 4);
    if (chunk === "acTL") return at + 12 <= bytes.length && view.getUint32(at + 8) > 1;
    if (chunk === "IDAT") return false;
  }
  return false;
}

/** Pictures in a GIF; stops at the second. */
function countFrames(bytes) {
  const palette = (flags) => (flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + palette(bytes[10]), frames = 0;
  const skip = () => { while (at < bytes.length && bytes[at]) at += bytes[at] + 1; at++; };
  while (at < bytes.length && frames < 2) {
    const block = bytes[at];
    if (block === 0x21) { at += 2; skip(); } // an extension
    else if (block === 0x2c) { frames++; at += 10 + palette(bytes[at + 9]) + 1; skip(); }
    else break;
  }
  return frames;
}
