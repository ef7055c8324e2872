// What is seen: the photo, the mask above it, and what follows the pointer; zoomed and moved. It changes nothing.

const EDGE = 20; // room around a photo that is fitted, in CSS pixels
const LARGEST = 32;
const STRIPES = [0x8c8a21e0, 0x8c7312c4]; // ABGR: magenta, rare in photos, in two shades
const RIM = 0xd9ffffff; // white around it, for photos that are magenta all the same

export class View {
  constructor(stage) {
    this.stage = stage;
    [this.base, this.over, this.top] = stage.querySelectorAll("canvas");
    this.photo = null;
    this.result = null; // shown to the left of the split
    this.mask = null;
    this.split = 0.5;
    this.comparing = false;
    this.held = false; // only the photo as it was is shown, while a button is held
    this.scale = 1; // CSS pixels of one photo pixel
    this.x = 0;
    this.y = 0;
    this.fitted = true;
    this.pointer = null; // {x, y, radius, cross} in photo pixels
    this.shape = null; // {kind, points} that is being drawn
    this.dirty = { base: true, mask: null, top: true };
    this.frame = 0;
    this.onchange = () => {};
    new ResizeObserver(() => this.resize()).observe(stage);
  }

  show(photo, mask, { keep = false } = {}) {
    const same = this.photo && this.photo.width === photo.width && this.photo.height === photo.height;
    this.photo = photo;
    this.mask = mask;
    this.result = null;
    this.comparing = this.held = false;
    this.shape = null;
    if (!keep || !same) this.fit();
    this.redraw();
  }

  compare(original, result) {
    this.photo = original;
    this.result = result;
    this.comparing = true;
    this.pointer = this.shape = null;
    this.redraw();
  }

  // Where things are ------------------------------------------------------------------------------------------------

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.ratio = Math.min(window.devicePixelRatio || 1, 3);
    this.fineness = Math.min(this.ratio, 2);
    for (const [canvas, ratio] of [[this.base, this.ratio], [this.over, this.fineness], [this.top, this.ratio]]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    if (this.photo) {
      if (this.fitted) this.fit();
      else this.settle();
    }
    this.redraw();
  }

  get fitting() {
    if (!this.photo || !this.width) return 1;
    const edge = Math.min(EDGE, this.width / 24);
    return Math.min((this.width - 2 * edge) / this.photo.width, (this.height - 2 * edge) / this.photo.height, 4);
  }

  fit() {
    if (!this.photo || !this.width) return;
    this.scale = this.fitting;
    this.x = (this.width - this.photo.width * this.scale) / 2;
    this.y = (this.height - this.photo.height * this.scale) / 2;
    this.fitted = true;
    this.redraw();
  }

  zoom(factor, cx = this.width / 2, cy = this.height / 2) {
    if (!this.photo) return;
    const least = Math.min(this.fitting, 1) * 0.5;
    const scale = Math.max(least, Math.min(LARGEST, this.scale * factor));
    this.x = cx - ((cx - this.x) / this.scale) * scale;
    this.y = cy - ((cy - this.y) / this.scale) * scale;
    this.scale = scale;
    this.fitted = false;
    this.settle();
    this.redraw();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.settle();
    this.redraw();
  }

  /** Keeps a part of the photo in sight. */
  settle() {
    const wide = this.photo.width * this.scale, tall = this.photo.height * this.scale;
    const keep = (at, size, room) => {
      const least = Math.min(size, room) / 3;
      return Math.max(least - size, Math.min(room - least, at));
    };
    this.x = keep(this.x, wide, this.width);
    this.y = keep(this.y, tall, this.height);
  }

  toPhoto(cx, cy) {
    return [(cx - this.x) / this.scale, (cy - this.y) / this.scale];
  }

  /** Moves so that a place of the photo can be seen. */
  reveal(px, py) {
    const cx = this.x + px * this.scale, cy = this.y + py * this.scale, room = 48;
    const dx = cx < room ? room - cx : cx > this.width - room ? this.width - room - cx : 0;
    const dy = cy < room ? room - cy : cy > this.height - room ? this.height - room - cy : 0;
    if (dx || dy) this.pan(dx, dy);
  }

  // Drawing ---------------------------------------------------------------------------------------------------------

  redraw() {
    this.dirty = { base: true, mask: "all", top: true };
    this.schedule();
    this.onchange();
  }

  redrawMask(box) {
    const known = this.dirty.mask;
    if (!box || known === "all") this.dirty.mask = "all";
    else if (!known) this.dirty.mask = { ...box };
    else {
      known.left = Math.min(known.left, box.left);
      known.top = Math.min(known.top, box.top);
      known.right = Math.max(known.right, box.right);
      known.bottom = Math.max(known.bottom, box.bottom);
    }
    this.schedule();
  }

  redrawTop() { this.dirty.top = true; this.schedule(); }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.photo || !this.width) return;
      const dirty = this.dirty;
      this.dirty = { base: false, mask: null, top: false };
      if (dirty.base) this.drawBase();
      if (dirty.mask) this.drawMask(dirty.mask);
      if (dirty.base || dirty.top) this.drawTop();
    });
  }

  drawBase() {
    const { base, ratio, scale } = this;
    const context = base.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const wide = this.photo.width * scale, tall = this.photo.height * scale;
    context.fillStyle = this.checks ??= checks(context);
    context.fillRect(this.x, this.y, wide, tall);
    context.imageSmoothingEnabled = scale * ratio < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.photo.at(scale * ratio), this.x, this.y, wide, tall);
    if (this.comparing && this.result && !this.held) {
      const at = this.x + this.split * wide;
      context.save();
      context.beginPath();
      context.rect(this.x, this.y, at - this.x, tall);
      context.clip();
      context.fillStyle = this.checks;
      context.fillRect(this.x, this.y, wide, tall);
      context.drawImage(this.result.at(scale * ratio), this.x, this.y, wide, tall);
      context.restore();
    }
  }

  drawMask(box) {
    const { over, fineness, mask, scale } = this;
    const context = over.getContext("2d");
    if (!mask || this.comparing) {
      context.clearRect(0, 0, over.width, over.height);
      return;
    }
    const k = scale * fineness, ox = this.x * fineness, oy = this.y * fineness; // canvas = photo * k + o
    let area = [0, 0, over.width, over.height];
    if (box === "all") context.clearRect(0, 0, over.width, over.height);
    else area = [box.left * k + ox - 4, box.top * k + oy - 4, box.right * k + ox + 4, box.bottom * k + oy + 4];
    const left = Math.floor(Math.max(0, area[0], ox)), top = Math.floor(Math.max(0, area[1], oy));
    const right = Math.ceil(Math.min(over.width, area[2], mask.width * k + ox));
    const bottom = Math.ceil(Math.min(over.height, area[3], mask.height * k + oy));
    if (left >= right || top >= bottom) return;
    // Zoomed out, one canvas pixel covers many of the mask: some are looked at, so that thin lines do not break up.
    const samples = k >= 1 ? 1 : Math.min(3, Math.ceil(1 / k));
    const edge = Math.max(1, Math.round(fineness)), wide = right - left + 2 * edge, tall = bottom - top + 2 * edge;
    const columns = places(left - edge, right + edge, ox, k, samples, mask.width);
    const rows = places(top - edge, bottom + edge, oy, k, samples, mask.height);
    const { data, width } = mask;
    const hits = new Uint8Array(wide * tall);
    for (let y = 0, n = 0; y < tall; y++) {
      for (let x = 0; x < wide; x++, n++) {
        let hit = 0;
        for (let j = 0; j < samples && !hit; j++) {
          const start = rows[y * samples + j] * width;
          for (let i = 0; i < samples; i++) hit |= data[start + columns[x * samples + i]];
        }
        hits[n] = hit;
      }
    }
    const image = context.createImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    const down = edge * wide;
    for (let y = 0, n = 0; y < bottom - top; y++) {
      for (let x = 0, at = (y + edge) * wide + edge; x < right - left; x++, n++, at++) {
        if (!hits[at]) continue;
        const inside = hits[at - edge] & hits[at + edge] & hits[at - down] & hits[at + down];
        pixels[n] = inside ? STRIPES[((x + left + y + top) >> 3) & 1] : RIM;
      }
    }
    context.putImageData(image, left, top);
  }

  drawTop() {
    const { top, ratio } = this;
    const context = top.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (this.comparing) this.drawSplit(context);
    if (this.shape) this.drawShape(context);
    if (this.pointer) this.drawPointer(context);
  }

  drawSplit(context) {
    const wide = this.photo.width * this.scale, tall = this.photo.height * this.scale;
    const at = this.x + this.split * wide;
    const from = Math.max(0, this.y), to = Math.min(this.height, this.y + tall);
    const left = Math.max(0, this.x) + 12, right = Math.min(this.width, this.x + wide) - 12;
    if (this.held) {
      this.label(context, "Before", right, from + 12, "right", -Infinity);
      return;
    }
    context.fillStyle = "#0006";
    context.fillRect(at - 2, from, 4, to - from);
    context.fillStyle = "#fff";
    context.fillRect(at - 1, from, 2, to - from);
    this.label(context, "After", left, from + 12, "left", at);
    this.label(context, "Before", right, from + 12, "right", at);
    const middle = (from + to) / 2;
    context.fillStyle = "#fff";
    context.beginPath();
    context.arc(at, middle, 20, 0, 7);
    context.shadowColor = "#0007";
    context.shadowBlur = 8;
    context.fill();
    context.shadowBlur = 0;
    context.strokeStyle = "#22282b";
    context.lineWidth = 2;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(at + side * 6, middle - 5);
      context.lineTo(at + side * 11, middle);
      context.lineTo(at + side * 6, middle + 5);
    }
    context.stroke();
  }

  /** A word in a corner of the photo, as long as the split leaves room for it. */
  label(context, text, x, y, side, at) {
    context.font = "600 13px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
    const wide = context.measureText(text).width + 24, left = side === "left" ? x : x - wide;
    if (side === "left" ? left + wide + 8 > at : left - 8 < at) return;
    context.fillStyle = "#16191bcc";
    context.beginPath();
    context.roundRect(left, y, wide, 26, 13);
    context.fill();
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, left + 12, y + 14);
  }

  drawShape(context) {
    const place = ([x, y]) => [this.x + x * this.scale, this.y + y * this.scale];
    context.beginPath();
    if (this.shape.kind === "rectangle") {
      const [[ax, ay], [bx, by]] = this.shape.points.map(place);
      context.rect(Math.min(ax, bx), Math.min(ay, by), Math.abs(bx - ax), Math.abs(by - ay));
    } else {
      this.shape.points.forEach((point) => context.lineTo(...place(point)));
      context.closePath();
    }
    context.fillStyle = this.shape.remove ? "#ffffff40" : "#e0218a40";
    context.fill("nonzero");
    outline(context, [6, 4]);
  }

  drawPointer(context) {
    const { x, y, radius, cross } = this.pointer;
    const cx = this.x + x * this.scale, cy = this.y + y * this.scale;
    context.beginPath();
    if (radius) context.arc(cx, cy, Math.max(2, radius * this.scale), 0, 7);
    if (cross) {
      for (const [dx, dy] of [[1, 0], [0, 1]]) {
        for (const side of [-1, 1]) {
          context.moveTo(cx + side * dx * 4, cy + side * dy * 4);
          context.lineTo(cx + side * dx * 14, cy + side * dy * 14);
        }
      }
    }
    outline(context, []);
  }
}

function outline(context, dash) {
  context.lineWidth = 3;
  context.strokeStyle = "#000a";
  context.setLineDash([]);
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

/** The places of an axis that are looked at for each canvas pixel. */
function places(start, stop, offset, k, samples, limit) {
  const found = new Int32Array((stop - start) * samples);
  for (let at = start, n = 0; at < stop; at++) {
    for (let i = 0; i < samples; i++, n++) {
      const place = Math.floor((at + (i + 0.5) / samples - offset) / k);
      found[n] = Math.max(0, Math.min(limit - 1, place));
    }
  }
  return found;
}

function checks(context) {
  const tile = new OffscreenCanvas(16, 16);
  const paint = tile.getContext("2d");
  paint.fillStyle = "#e9e9e9";
  paint.fillRect(0, 0, 16, 16);
  paint.fillStyle = "#cfcfcf";
  paint.fillRect(0, 0, 8, 8);
  paint.fillRect(8, 8, 8, 8);
  return context.createPattern(tile, "repeat");
}
