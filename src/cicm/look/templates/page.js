"use strict";
// Fills the panel with what one region read. Everything from outside goes in as text, never as markup.
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const panel = document.getElementById("detail");
  const holder = document.getElementById("region");
  const said = document.getElementById("said");
  let now = null; // [visit, region]
  let pinned = false;

  const percent = (tenThousandths) => {
    const value = tenThousandths / 100;
    return (value < 9.95 ? value.toFixed(1) : value.toFixed(0)) + " %";
  };

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function place(node, left, top, width, height) {
    Object.assign(node.style, {
      left: 100 * left + "%", top: 100 * top + "%", width: 100 * width + "%", height: 100 * height + "%",
    });
  }

  // A cell as [left, top, right, bottom], in shares of the seen part; cut at its edges.
  function cell(visit, region) {
    const [h, w] = D.visits[visit].grid;
    const row = Math.floor(region / w), column = region % w;
    const along = (at, cells, axis) =>
      Math.min(1, Math.max(0, ((at * D.padded[axis]) / cells - D.offset[axis]) / D.work[axis]));
    return [along(column, w, 1), along(row, h, 0), along(column + 1, w, 1), along(row + 1, h, 0)];
  }

  function pixels(box) {
    const [l, t, r, b] = D.box;
    return [l + box[0] * (r - l), t + box[1] * (b - t), l + box[2] * (r - l), t + box[3] * (b - t)].map(Math.round);
  }

  function span(box) {
    return `x ${box[0]}–${box[2]}, y ${box[1]}–${box[3]}`;
  }

  function bar(label, value, words) {
    const row = make("div", "bar");
    const track = make("i"), fill = make("b");
    fill.style.width = value / 100 + "%";
    track.append(fill);
    row.append(make("span", "", label), track, make("em", "", words || percent(value)));
    return row;
  }

  // Three cells by three of a picture, the region outlined in the middle.
  function zoom(name, box, label) {
    const figure = make("figure");
    const frame = make("div", "zoom");
    frame.setAttribute("role", "img");
    frame.setAttribute("aria-label", label);
    const [l, t, r, b] = D.box;
    const wide = r - l, tall = b - t;
    const side = Math.min(3 * Math.max((box[2] - box[0]) * wide, (box[3] - box[1]) * tall), wide, tall);
    const from = (low, high, length) => Math.min(Math.max(((low + high) / 2) * length - side / 2, 0), length - side);
    const x = from(box[0], box[2], wide), y = from(box[1], box[3], tall);
    const position = (at, length) => (length > side ? (100 * at) / (length - side) + "%" : "0");
    frame.style.backgroundImage = `var(--seen-${name})`;
    frame.style.backgroundSize = `${(100 * wide) / side}% ${(100 * tall) / side}%`;
    frame.style.backgroundPosition = `${position(x, wide)} ${position(y, tall)}`;
    const outline = make("span");
    place(outline, (box[0] * wide - x) / side, (box[1] * tall - y) / side,
      ((box[2] - box[0]) * wide) / side, ((box[3] - box[1]) * tall) / side);
    frame.append(outline);
    figure.append(frame, make("figcaption", "", label));
    return figure;
  }

  function source(one) {
    const item = make("div", "source");
    if (one.picture) {
      const frame = make("div"), image = make("img"), outline = make("span");
      image.src = "data:image/jpeg;base64," + one.picture;
      image.alt = "";
      const [l, t, r, b] = one.window;
      place(outline, (one.box[0] - l) / (r - l), (one.box[1] - t) / (b - t),
        (one.box[2] - one.box[0]) / (r - l), (one.box[3] - one.box[1]) / (b - t));
      frame.append(image, outline);
      item.append(frame);
    }
    const words = make("p", "", one.photo);
    const [l, t, r, b] = one.box;
    item.append(words, make("p", "place", `x ${l}–${r}`), make("p", "place", `y ${t}–${b}`));
    item.append(make("p", "place", `alike ${one.alike.toFixed(2)}`));
    return item;
  }

  function show(visit, region) {
    now = [visit, region];
    const v = D.visits[visit];
    const box = cell(visit, region);
    for (const mark of document.querySelectorAll(".mark")) {
      const own = Number(mark.closest(".visit").dataset.visit) === visit;
      mark.style.display = own ? "block" : "none";
      if (own) place(mark, box[0], box[1], box[2] - box[0], box[3] - box[1]);
    }
    const set = v.sets[region];
    const others = v.sets.filter((s, at) => s === set && inside(visit, at)).length - 1;
    const width = v.grid[1];
    const parts = [];

    const heading = make("h3", "", `Region in row ${Math.floor(region / width) + 1}, column ${(region % width) + 1}`);
    parts.push(heading, make("p", "small", `${v.site}: pixels ${span(pixels(box))} of the photo`));
    const zooms = make("div", "zooms");
    zooms.append(zoom("corrupted", box, "With the hole"), zoom("repaired", box, "Repaired"));
    parts.push(zooms);

    parts.push(make("h3", "", "Share of context"));
    parts.push(bar("estimated", v.estimated[region]), bar("true", v.true[region]));

    const title = make("h3");
    title.style.marginTop = "14px";
    const chip = make("span", "chip");
    chip.style.background = D.colours[set];
    title.append(chip, `Set ${set}`);
    parts.push(title);
    parts.push(make("p", "small", others === 1 ? "1 other region reads it too" : `${others} other regions read it too`));
    let told = 0;
    for (let place = 0; place < v.each; place++) {
      const at = region * v.each + place;
      const context = v.top[at], weight = v.weights[at];
      told += weight;
      parts.push(bar(`context ${context}`, weight));
      const known = D.sources && D.sources[`${v.site}/${set}/${context}`];
      if (place < D.withSources && D.sources) {
        if (known && known.length) {
          const row = make("div", "sources");
          row.append(...known.slice(0, 4).map(source));
          parts.push(row, make("p", "small", `alike on average in this set: ${known[0].typical.toFixed(2)}`));
        } else {
          parts.push(make("p", "small", "no region of the indexed photos would be written here"));
        }
      }
    }
    if (v.contexts > v.each) parts.push(bar(`${v.contexts - v.each} others`, Math.max(0, 10000 - told)));
    holder.replaceChildren(...parts);
  }

  function say(visit, region) {
    const v = D.visits[visit];
    said.textContent =
      `Row ${Math.floor(region / v.grid[1]) + 1}, column ${(region % v.grid[1]) + 1}: set ${v.sets[region]}, ` +
      `ratio ${percent(v.estimated[region])}, true ${percent(v.true[region])}.`;
  }

  function pin(on) {
    pinned = on;
    panel.classList.toggle("pinned", on);
  }

  const inside = (visit, region) => {
    const box = cell(visit, region);
    return box[2] > box[0] && box[3] > box[1];
  };

  function pointed(visit, map, event) {
    const frame = map.getBoundingClientRect();
    const [h, w] = D.visits[visit].grid;
    const along = (share, cells, axis) =>
      Math.min(cells - 1, Math.max(0, Math.floor(((share * D.work[axis] + D.offset[axis]) / D.padded[axis]) * cells)));
    const row = along((event.clientY - frame.top) / frame.height, h, 0);
    return row * w + along((event.clientX - frame.left) / frame.width, w, 1);
  }

  for (const section of document.querySelectorAll(".visit")) {
    const visit = Number(section.dataset.visit);
    for (const map of section.querySelectorAll(".map")) {
      map.addEventListener("pointermove", (event) => {
        const region = pointed(visit, map, event);
        if (!pinned && !(now && now[0] === visit && now[1] === region)) show(visit, region);
      });
      map.addEventListener("click", (event) => {
        const region = pointed(visit, map, event);
        const again = pinned && now[0] === visit && now[1] === region;
        pin(!again);
        show(visit, region);
        say(visit, region);
      });
      map.addEventListener("keydown", (event) => {
        const [h, w] = D.visits[visit].grid;
        const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
        if (event.key === "Escape") return pin(false);
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          return pin(!pinned);
        }
        if (!step) return;
        event.preventDefault();
        const from = now && now[0] === visit ? now[1] : start(visit);
        const row = Math.floor(from / w) + step[0], column = (from % w) + step[1];
        if (row < 0 || column < 0 || row >= h || column >= w || !inside(visit, row * w + column)) return;
        show(visit, row * w + column);
        say(visit, row * w + column);
      });
    }
  }

  document.getElementById("opacity").addEventListener("input", (event) => {
    document.documentElement.style.setProperty("--opacity", event.target.value / 100);
  });

  // Where the most is missing, and of these where the most context is used.
  function start(visit) {
    const v = D.visits[visit];
    let best = 0;
    v.sets.forEach((_, region) => {
      if (!inside(visit, region)) return;
      const ahead = v.true[region] - v.true[best] || v.estimated[region] - v.estimated[best];
      if (ahead > 0 || !inside(visit, best)) best = region;
    });
    return best;
  }
  if (D.visits.length) show(D.visits.length - 1, start(D.visits.length - 1));
})();
