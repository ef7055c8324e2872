// Other photos of the same place: held by this page, sent with each repair, gone with the page.

import { Problem, send } from "./api.js";
import { checkKind } from "./kinds.js";
import { megabytes } from "./photo.js";

const SIDE = 160; // of the small pictures, in canvas pixels

export class Album {
  constructor(list) {
    this.list = list; // the <ul> that shows them
    this.photos = []; // {file, pixels, item}
    this.version = 0; // another number, another set of photos
    this.onchange = () => {};
  }

  get files() { return this.photos.map(({ file }) => file); }

  /** Adds what can be used; throws about the first that can't when the others are in. `taken` are bytes sent anyway. */
  async add(files, { limits, formats }, taken) {
    let wrong = null;
    for (const file of files) {
      try {
        await this.addOne(file, limits, formats, taken);
      } catch (error) {
        wrong ??= error;
      }
    }
    if (wrong) throw wrong;
  }

  async addOne(file, limits, formats, taken) {
    const known = ({ file: one }) => one.name === file.name && one.size === file.size && one.lastModified === file.lastModified;
    if (this.photos.some(known)) return;
    if (this.photos.length >= limits.max_album) {
      throw new Problem(`${file.name} was not added: this server takes up to ${limits.max_album} other photos. Remove one first.`);
    }
    if (file.size === 0) throw new Problem(`${file.name} is empty. Choose another file.`);
    const bytes = this.photos.reduce((sum, one) => sum + one.file.size, file.size + taken + 65536);
    if (bytes > limits.max_bytes) {
      throw new Problem(`${file.name} was not added: all photos together would have ${megabytes(bytes)}; this server takes up to ${megabytes(limits.max_bytes)}. Save it smaller.`);
    }
    await checkKind(file, file.name, formats);
    const { bitmap, pixels } = await small(file);
    if (pixels > limits.max_pixels || this.photos.reduce((sum, one) => sum + one.pixels, pixels) > limits.max_album_pixels) {
      bitmap.close();
      throw new Problem(`${file.name} was not added: with its ${(pixels / 1e6).toFixed(0)} megapixels the other photos would have more than this server takes (${(limits.max_album_pixels / 1e6).toFixed(0)}). Save it smaller.`);
    }
    if (this.photos.length >= limits.max_album || this.photos.some(known)) return bitmap.close();
    const photo = { file, pixels };
    photo.item = this.show(photo, bitmap);
    bitmap.close();
    this.photos.push(photo);
    this.changed();
  }

  show(photo, bitmap) {
    const item = document.createElement("li");
    const canvas = document.createElement("canvas");
    const name = document.createElement("span");
    const button = document.createElement("button");
    canvas.width = canvas.height = SIDE;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", photo.file.name);
    const context = canvas.getContext("2d");
    const scale = SIDE / Math.min(bitmap.width, bitmap.height);
    const [wide, tall] = [bitmap.width * scale, bitmap.height * scale];
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (SIDE - wide) / 2, (SIDE - tall) / 2, wide, tall);
    name.textContent = item.title = photo.file.name;
    button.type = "button";
    button.innerHTML = '<svg><use href="#i-close"/></svg>';
    button.setAttribute("aria-label", `Remove ${photo.file.name}`);
    button.addEventListener("click", () => this.remove(photo));
    item.append(canvas, name, button);
    this.list.append(item);
    return item;
  }

  remove(photo) {
    const next = (photo.item.nextElementSibling ?? photo.item.previousElementSibling)?.querySelector("button");
    this.photos = this.photos.filter((one) => one !== photo);
    photo.item.remove();
    this.changed();
    next?.focus();
  }

  clear() {
    this.photos = [];
    this.list.replaceChildren();
    this.changed();
  }

  changed() {
    this.version++;
    this.onchange();
  }
}

/** A picture to show, made by the server where the browser can't, and how many pixels the photo has. */
async function small(file) {
  try {
    const bitmap = await createImageBitmap(file);
    return { bitmap, pixels: bitmap.width * bitmap.height };
  } catch {
    const shown = await send("/api/v1/preview", { image: file, side: 2 * SIDE });
    return { bitmap: await createImageBitmap(shown.blob), pixels: Number(shown.header("Cicm-Width")) * Number(shown.header("Cicm-Height")) };
  }
}
