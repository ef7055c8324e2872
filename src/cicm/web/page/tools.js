// Pointer, wheel and keys on the stage: what they draw into the mask, and how they move the view.

const SLOW_TAP = 250; // ms in which a second finger still means a pinch, not a stroke

export class Tools {
  constructor(stage, view) {
    this.stage = stage;
    this.view = view;
    this.tool = "brush";
    this.size = 40; // diameter in photo pixels
    this.enabled = false;
    this.fingers = new Map();
    this.drag = null; // "draw", "pan", "split", "pinch"
    this.space = false;
    this.keyboard = null; // {x, y, down}: the pointer that arrow keys move
    this.onstep = () => {};
    this.onsplit = () => {};
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", (event) => this.up(event, true));
    stage.addEventListener("pointerleave", () => this.hover(null));
    // A stroke is no gesture: no fling that swallows the next tap, no magnifier where a finger rests.
    stage.addEventListener("touchstart", (event) => event.target === stage && event.preventDefault(), { passive: false });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("keydown", (event) => this.key(event));
    stage.addEventListener("keyup", (event) => event.key === " " && this.hold(false));
    stage.addEventListener("blur", () => { this.hold(false); this.leave(); });
  }

  select(tool) {
    this.cancel();
    this.tool = tool;
    this.cursor();
  }

  setSize(size) {
    this.size = size;
    if (this.view.pointer) {
      this.view.pointer.radius = this.radius;
      this.view.redrawTop();
    }
  }

  get radius() { return this.tool === "brush" || this.tool === "eraser" ? this.size / 2 : 0; }

  cursor() {
    const pans = this.space || this.tool === "hand";
    const { comparing } = this.view;
    this.stage.style.cursor = this.drag === "pan" ? "grabbing" : pans ? "grab" : comparing ? "ew-resize" : this.radius ? "none" : "crosshair";
    if (comparing || pans || !this.enabled) this.hover(null);
  }

  // Pointers --------------------------------------------------------------------------------------------------------

  at(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (!this.view.photo || !this.enabled) return;
    this.leave();
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, this.at(event));
    if (event.pointerType === "touch" && this.fingers.size === 2) {
      if (this.drag === "draw") {
        if (event.timeStamp - this.since < SLOW_TAP) this.cancel();
        else this.finish();
      }
      this.drag = "pinch";
      return;
    }
    if (this.fingers.size > 1) return;
    const [cx, cy] = this.at(event);
    if (event.button !== 0 || this.space || (this.tool === "hand" && !this.view.comparing)) this.drag = "pan";
    else if (this.view.comparing) {
      this.drag = "split";
      this.slide(cx);
    } else {
      this.drag = "draw";
      this.since = event.timeStamp;
      this.start(...this.view.toPhoto(cx, cy), event.altKey);
    }
    this.cursor();
    event.preventDefault();
  }

  move(event) {
    const [cx, cy] = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.hover([cx, cy]);
      return;
    }
    if (this.drag === "pinch") this.pinch(event.pointerId, [cx, cy]);
    this.fingers.set(event.pointerId, [cx, cy]);
    if (this.drag === "pan") this.view.pan(cx - before[0], cy - before[1]);
    else if (this.drag === "split") this.slide(cx);
    else if (this.drag === "draw") {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) this.go(...this.view.toPhoto(...this.at(one)));
      this.hover([cx, cy]);
    }
  }

  up(event, lost = false) {
    if (!this.fingers.delete(event.pointerId)) return;
    if (this.drag === "draw") {
      if (lost) this.cancel();
      else this.finish();
    }
    if (this.drag !== "pinch" || this.fingers.size === 0) this.drag = null;
    if (event.pointerType === "touch") this.hover(null);
    this.cursor();
  }

  pinch(id, now) {
    const [[other, still]] = [...this.fingers].filter(([key]) => key !== id);
    if (other === undefined) return;
    const before = this.fingers.get(id);
    const apart = (a, b) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
    const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const [ax, ay] = middle(before, still), [bx, by] = middle(now, still);
    this.view.pan(bx - ax, by - ay);
    this.view.zoom(apart(now, still) / apart(before, still), bx, by);
  }

  wheel(event) {
    if (!this.view.photo || !this.enabled) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 200 : 1;
    if (event.shiftKey) this.view.pan(-(event.deltaX || event.deltaY) * lines, 0);
    else {
      const speed = event.ctrlKey ? 0.01 : 0.0018; // a pinch on a touchpad comes as small steps with ctrl
      this.view.zoom(Math.exp(-event.deltaY * lines * speed), ...this.at(event));
    }
    this.hover(this.at(event));
  }

  hover(place) {
    const shown = place && this.enabled && !this.view.comparing && this.drag !== "pan" && this.tool !== "hand" && !this.space;
    if (!shown && !this.view.pointer) return;
    if (!shown && this.keyboard) return;
    const [x, y] = shown ? this.view.toPhoto(...place) : [0, 0];
    this.view.pointer = shown && this.radius ? { x, y, radius: this.radius, cross: this.radius * this.view.scale < 4 } : null;
    this.view.redrawTop();
  }

  slide(cx) {
    const [x] = this.view.toPhoto(cx, 0);
    this.onsplit(Math.max(0, Math.min(1, x / this.view.photo.width)));
  }

  // Drawing, in photo pixels ---------------------------------------------------------------------------------------

  start(x, y, remove) {
    const { mask } = this.view;
    this.remove = remove || this.tool === "eraser";
    this.points = [[x, y]];
    mask.begin();
    if (this.radius) this.view.redrawMask(mask.stroke(x, y, x, y, this.radius, this.remove ? 0 : 1));
    else this.preview();
  }

  go(x, y) {
    const { mask } = this.view;
    const [px, py] = this.points.at(-1);
    if (this.radius) {
      this.view.redrawMask(mask.stroke(px, py, x, y, this.radius, this.remove ? 0 : 1));
      this.points = [[x, y]];
    } else if (this.tool === "rectangle") {
      this.points = [this.points[0], [x, y]];
      this.preview();
    } else if (Math.hypot(x - px, y - py) * this.view.scale >= 1) {
      this.points.push([x, y]);
      this.preview();
    }
  }

  finish() {
    const { mask } = this.view, value = this.remove ? 0 : 1;
    if (this.view.shape) {
      const points = this.points;
      if (this.tool === "rectangle" && points.length === 2) mask.rectangle(...points[0], ...points[1], value);
      if (this.tool === "lasso") mask.polygon(points, value);
      this.view.shape = null;
      this.view.redrawTop();
      this.view.redrawMask(null);
    }
    if (mask.finish()) this.onstep();
  }

  /** Gives up what is being drawn. */
  cancel() {
    this.leave();
    if (this.view.mask?.open) {
      this.view.mask.abandon();
      this.view.redrawMask(null);
    }
    this.view.shape = null;
    this.view.redrawTop();
    if (this.drag === "draw") this.drag = null;
  }

  preview() {
    const points = this.points.length === 1 ? [this.points[0], this.points[0]] : this.points;
    this.view.shape = { kind: this.tool, points, remove: this.remove };
    this.view.redrawTop();
  }

  // Keys ------------------------------------------------------------------------------------------------------------

  hold(on) {
    if (this.space === on) return;
    this.space = on;
    this.cursor();
  }

  /** Arrows move a pointer, Enter presses and lifts it: everything that a mouse can draw. */
  key(event) {
    if (!this.view.photo || !this.enabled || event.ctrlKey || event.metaKey) return;
    if (event.key === " ") {
      this.hold(true);
      event.preventDefault();
      return;
    }
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (this.view.comparing) {
      if (move?.[0]) {
        this.onsplit(Math.max(0, Math.min(1, this.view.split + move[0] * (event.shiftKey ? 0.1 : 0.02))));
        event.preventDefault();
      }
      return;
    }
    if (move) {
      event.preventDefault();
      if (this.tool === "hand" || this.space) {
        this.view.pan(-move[0] * 40, -move[1] * 40);
        return;
      }
      const { photo } = this.view;
      this.keyboard ??= { x: photo.width / 2, y: photo.height / 2, down: false };
      const step = Math.max(1, Math.round((this.radius || 16 / this.view.scale) / 2)) * (event.shiftKey ? 5 : 1);
      this.keyboard.x = Math.max(0, Math.min(photo.width, this.keyboard.x + move[0] * step));
      this.keyboard.y = Math.max(0, Math.min(photo.height, this.keyboard.y + move[1] * step));
      this.view.reveal(this.keyboard.x, this.keyboard.y);
      if (this.keyboard.down) this.go(this.keyboard.x, this.keyboard.y);
      this.aim();
    } else if (event.key === "Enter" && this.tool !== "hand") {
      event.preventDefault();
      const { photo } = this.view;
      this.keyboard ??= { x: photo.width / 2, y: photo.height / 2, down: false };
      const { x, y, down } = this.keyboard;
      if (down) this.finish();
      else this.start(x, y, event.altKey);
      this.keyboard.down = !down;
      this.aim();
      this.onpen?.(!down);
    }
  }

  aim() {
    this.view.pointer = { x: this.keyboard.x, y: this.keyboard.y, radius: this.radius, cross: true };
    this.view.redrawTop();
  }

  /** The pointer of the keys goes away; what it was drawing is kept. */
  leave() {
    if (!this.keyboard) return;
    if (this.keyboard.down) this.finish();
    this.keyboard = null;
    this.view.pointer = null;
    this.view.redrawTop();
  }
}
