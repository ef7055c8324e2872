// The mask at the photo's full resolution: one byte a pixel, 1 = fill. Drawing, undo, and the way to a PNG file.
// No canvas is used, so that edges are exact and no browser's limit on canvas sizes matters.

const TILE = 256;
const MAX_STEPS = 200;
const MAX_UNDO_BYTES = 128 * 2 ** 20;

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.count = 0; // pixels that are marked, as of the last finished step
    this.columns = Math.ceil(width / TILE);
    this.done = [];
    this.undone = [];
    this.bytes = 0;
    this.open = null; // tile number -> packed bits as they were before the step that is being drawn
  }

  get share() { return this.count / (this.width * this.height); }
  get canUndo() { return this.done.length > 0; }
  get canRedo() { return this.undone.length > 0; }

  // Steps ---------------------------------------------------------------------------------------------------------

  begin() { this.finish(); this.open = new Map(); }

  /** Ends a step; returns whether anything changed. */
  finish() {
    const open = this.open;
    this.open = null;
    if (!open) return false;
    const step = new Map();
    for (const [tile, before] of open) {
      const now = this.pack(tile);
      const change = ones(now) - ones(before);
      if (change === 0 && same(now, before)) continue;
      this.count += change;
      step.set(tile, before);
    }
    if (step.size === 0) return false;
    this.undone.length = 0;
    this.done.push(step);
    this.bytes = [...this.done].reduce((sum, one) => sum + size(one), 0);
    while (this.done.length > MAX_STEPS || (this.bytes > MAX_UNDO_BYTES && this.done.length > 1)) {
      this.bytes -= size(this.done.shift());
    }
    return true;
  }

  /** Takes back what has been drawn since begin(). */
  abandon() {
    const open = this.open;
    this.open = null;
    if (open) for (const [tile, before] of open) this.unpack(tile, before);
  }

  undo() { return this.swap(this.done, this.undone); }
  redo() { return this.swap(this.undone, this.done); }

  swap(from, to) {
    this.finish();
    const step = from.pop();
    if (!step) return false;
    const other = new Map();
    for (const [tile, bits] of step) {
      const now = this.pack(tile);
      this.count += ones(bits) - ones(now);
      other.set(tile, now);
      this.unpack(tile, bits);
    }
    to.push(other);
    return true;
  }

  // Shapes; coordinates are the photo's, a pixel's centre lies at a half ------------------------------------------------

  /** All pixels whose centre is at most `radius` from the line a-b; one pixel at least. */
  stroke(ax, ay, bx, by, radius, value) {
    const box = this.touch(
      Math.min(ax, bx) - radius - 1, Math.min(ay, by) - radius - 1,
      Math.max(ax, bx) + radius + 1, Math.max(ay, by) + radius + 1,
    );
    const dx = bx - ax, dy = by - ay, length2 = dx * dx + dy * dy, length = Math.sqrt(length2);
    for (let row = box.top; row < box.bottom; row++) {
      const y = row + 0.5;
      let low = Infinity, high = -Infinity;
      for (const [cx, cy] of [[ax, ay], [bx, by]]) {
        const rest = radius * radius - (y - cy) * (y - cy);
        if (rest < 0) continue;
        const reach = Math.sqrt(rest);
        low = Math.min(low, cx - reach);
        high = Math.max(high, cx + reach);
      }
      if (length > 0) {
        // The bar between the ends: within the radius of the line, and between its ends.
        const across = band(-dy, dx * (y - ay) + dy * ax, -radius * length, radius * length);
        const along = band(dx, dy * (y - ay) - dx * ax, 0, length2);
        const from = Math.max(across[0], along[0]), to = Math.min(across[1], along[1]);
        if (from <= to) { low = Math.min(low, from); high = Math.max(high, to); }
      }
      this.span(row, low, high, value);
    }
    if (radius < 0.75) {
      for (const [x, y] of [[ax, ay], [bx, by]]) {
        const column = Math.floor(x), row = Math.floor(y);
        if (column >= 0 && row >= 0 && column < this.width && row < this.height) {
          this.data[row * this.width + column] = value;
        }
      }
    }
    return box;
  }

  rectangle(ax, ay, bx, by, value) {
    const clip = (at, size) => Math.max(0, Math.min(size, at));
    const left = clip(Math.floor(Math.min(ax, bx)), this.width), right = clip(Math.ceil(Math.max(ax, bx)), this.width);
    const top = clip(Math.floor(Math.min(ay, by)), this.height), bottom = clip(Math.ceil(Math.max(ay, by)), this.height);
    const box = this.touch(left, top, right, bottom);
    if (left < right) {
      for (let row = top; row < bottom; row++) this.data.fill(value, row * this.width + left, row * this.width + right);
    }
    return box;
  }

  /** The inside of a closed line, also where it winds around twice. */
  polygon(points, value) {
    if (points.length < 3) return null;
    let left = Infinity, top = Infinity, right = -Infinity, bottom = -Infinity;
    for (const [x, y] of points) {
      left = Math.min(left, x); right = Math.max(right, x);
      top = Math.min(top, y); bottom = Math.max(bottom, y);
    }
    const box = this.touch(left, top, right, bottom);
    for (let row = box.top; row < box.bottom; row++) {
      const y = row + 0.5, hits = [];
      points.forEach(([ax, ay], i) => {
        const [bx, by] = points[(i + 1) % points.length];
        if ((ay <= y) !== (by <= y)) hits.push([ax + ((y - ay) / (by - ay)) * (bx - ax), ay <= y ? 1 : -1]);
      });
      hits.sort((a, b) => a[0] - b[0]);
      let winding = 0, start = 0;
      for (const [x, turn] of hits) {
        if (winding === 0) start = x;
        winding += turn;
        if (winding === 0) this.span(row, start, x, value);
      }
    }
    return box;
  }

  clear() { this.touch(0, 0, this.width, this.height); this.data.fill(0); }

  invert() {
    this.touch(0, 0, this.width, this.height);
    const data = this.data;
    for (let i = 0; i < data.length; i++) data[i] ^= 1;
  }

  /** Adds what another mask of the same size marks: rows of bytes, not 0 = fill. */
  add(other) {
    this.touch(0, 0, this.width, this.height);
    const data = this.data;
    for (let i = 0; i < data.length; i++) if (other[i]) data[i] = 1;
  }

  span(row, low, high, value) {
    // Centres within [low, high].
    const start = Math.max(0, Math.ceil(low - 0.5)), end = Math.min(this.width, Math.floor(high - 0.5) + 1);
    if (start < end) this.data.fill(value, row * this.width + start, row * this.width + end);
  }

  // Tiles -----------------------------------------------------------------------------------------------------------

  /** Keeps the tiles under a box for undo; returns the box in whole pixels, clipped. */
  touch(left, top, right, bottom) {
    const box = {
      left: Math.max(0, Math.floor(left)), top: Math.max(0, Math.floor(top)),
      right: Math.min(this.width, Math.ceil(right)), bottom: Math.min(this.height, Math.ceil(bottom)),
    };
    if (this.open && box.left < box.right && box.top < box.bottom) {
      for (let y = Math.floor(box.top / TILE); y * TILE < box.bottom; y++) {
        for (let x = Math.floor(box.left / TILE); x * TILE < box.right; x++) {
          const tile = y * this.columns + x;
          if (!this.open.has(tile)) this.open.set(tile, this.pack(tile));
        }
      }
    }
    return box;
  }

  place(tile) {
    const left = (tile % this.columns) * TILE, top = Math.floor(tile / this.columns) * TILE;
    return [left, top, Math.min(left + TILE, this.width), Math.min(top + TILE, this.height)];
  }

  pack(tile) {
    const [left, top, right, bottom] = this.place(tile);
    const bits = new Uint8Array(Math.ceil(((right - left) * (bottom - top)) / 8));
    let n = 0;
    for (let row = top; row < bottom; row++) {
      for (let at = row * this.width + left, end = row * this.width + right; at < end; at++, n++) {
        if (this.data[at]) bits[n >> 3] |= 128 >> (n & 7);
      }
    }
    return bits;
  }

  unpack(tile, bits) {
    const [left, top, right, bottom] = this.place(tile);
    let n = 0;
    for (let row = top; row < bottom; row++) {
      for (let at = row * this.width + left, end = row * this.width + right; at < end; at++, n++) {
        this.data[at] = (bits[n >> 3] >> (7 - (n & 7))) & 1;
      }
    }
  }

  // A file ----------------------------------------------------------------------------------------------------------

  /** A PNG of one bit a pixel, white = fill. */
  async toPNG() {
    const { width, height, data } = this;
    const stride = Math.ceil(width / 8);
    const rows = new Uint8Array((stride + 1) * height); // the first byte of a row: no filter
    for (let row = 0, at = 0; row < height; row++) {
      const start = row * (stride + 1) + 1;
      for (let column = 0; column < width; column++, at++) {
        if (data[at]) rows[start + (column >> 3)] |= 128 >> (column & 7);
      }
    }
    const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
    const packed = new Uint8Array(await new Response(stream).arrayBuffer());
    const header = new Uint8Array(13);
    const view = new DataView(header.buffer);
    view.setUint32(0, width);
    view.setUint32(4, height);
    header[8] = 1; // bits; grey, deflate, no interlace are 0
    const sign = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
    return new Blob([sign, chunk("IHDR", header), chunk("IDAT", packed), chunk("IEND", new Uint8Array())], { type: "image/png" });
  }
}

/** The x for which low <= slope * x + offset <= high. */
function band(slope, offset, low, high) {
  if (slope === 0) return low <= offset && offset <= high ? [-Infinity, Infinity] : [Infinity, -Infinity];
  const a = (low - offset) / slope, b = (high - offset) / slope;
  return a < b ? [a, b] : [b, a];
}

const COUNTS = Uint8Array.from({ length: 256 }, (_, n) => n.toString(2).replaceAll("0", "").length);

function ones(bits) {
  let sum = 0;
  for (let i = 0; i < bits.length; i++) sum += COUNTS[bits[i]];
  return sum;
}

function same(a, b) {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function size(step) {
  let sum = 0;
  for (const bits of step.values()) sum += bits.length;
  return sum;
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = name.charCodeAt(i);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < 8 + data.length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, (crc ^ 0xffffffff) >>> 0);
  return bytes;
}
