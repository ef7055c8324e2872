// The page's states, and what its buttons do: start -> paint -> busy -> compare -> paint ...

import { Album } from "./album.js";
import { Problem, findToken, info, send, setToken, waiting } from "./api.js";
import { Mask } from "./mask.js";
import { Photo } from "./photo.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const stage = $("stage");
const view = new View(stage);
const tools = new Tools(stage, view);
const album = new Album($("album-list"));
const SUFFIXES = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/tiff": "tif", "image/bmp": "bmp", "image/gif": "gif", "image/avif": "avif", "image/heif": "heic" };

let server = null; // what /api/v1/info told
let original = null; // the photo as it came
let now = null; // {photo, mask}: what is painted on
let result = null; // what is compared
let answers = []; // {photo, fill, seed, version, told} of this repair; one of them is `result`
let past = []; // {photo, mask} before each repair
let future = []; // what undoing a repair took back
let running = null; // AbortController of the request
let unsaved = false;
let used = false; // something has been painted: the hint has done its work

// States ---------------------------------------------------------------------------------------------------------------

function enter(state) {
  document.body.dataset.state = state;
  $("start").hidden = state !== "start";
  $("work").hidden = state === "start";
  $("busy").hidden = state !== "busy";
  $("tools").inert = state !== "paint";
  tools.enabled = state === "paint" || state === "compare";
  if (state !== "start") view.resize();
  tools.cursor();
  refresh();
}

const is = (state) => document.body.dataset.state === state;

function refresh() {
  const mask = now?.mask;
  const share = mask?.share ?? 0;
  const full = mask && mask.count === mask.width * mask.height;
  $("undo").disabled = !(mask?.canUndo || past.length);
  $("redo").disabled = !(mask?.canRedo || future.length);
  $("clear").disabled = !mask?.count;
  $("repair").disabled = !mask?.count || full || !is("paint");
  $("save-paint").hidden = !past.length;
  $("hint").hidden = used || Boolean(mask?.count) || past.length > 0;
  if (is("paint")) {
    $("told").textContent = full ? "Everything is marked: leave something to start from." : share ? `${percent(share)} marked` : "";
    $("told").classList.toggle("warn", Boolean(full) || share > 0.6);
    if (share > 0.6 && !full) $("told").textContent += ": more than the model is trained for. Is the mask the other way round? (I inverts it)";
  }
  const zoom = Math.round(100 * view.scale);
  $("zoom").textContent = `${zoom} %`;
  if (is("compare")) {
    const at = answers.findIndex(({ photo }) => photo === result), next = nextAnswer();
    $("answer-told").textContent = `${at + 1} of ${answers.length}`;
    $("earlier").disabled = at < 1;
    $("later").disabled = at > answers.length - 2;
    $("another").disabled = next.same && next.fill === "network";
    $("another").lastElementChild.textContent = next.same ? "Another" : "Repair again";
    $("another").title = $("another").disabled ? "Smooth has one answer only" : "Another answer (A)";
  }
}

const WAYS = {
  both: "Both: real pixels, joined smoothly. Best for most places.",
  network: "Smooth: calm colours, nothing copied. Best for scratches and faces.",
  exemplar: "Real pixels: copied from elsewhere in the photo, sharp. Best for sand, grass and walls.",
};

const percent = (share) => `${share < 0.001 ? "under 0.1" : (100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function say(text) { $("status").textContent = text; }

function complain(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) return askToken();
  if (!(error instanceof Problem)) console.error(error);
  const text = error instanceof Problem ? error.message : "Something went wrong on this page. Reload it and try again.";
  $("alert").firstElementChild.textContent = text;
  $("alert").hidden = false;
}

function calm() { $("alert").hidden = true; }

// Photos ---------------------------------------------------------------------------------------------------------------

let opening = 0;

async function load(file) {
  if (is("busy")) return;
  calm();
  const turn = ++opening;
  document.body.classList.add("opening");
  try {
    await known;
    const photo = await Photo.open(file, file.name || "pasted.png", server?.limits, server?.formats);
    if (turn !== opening) return photo.close();
    if (unsaved && !confirm("The repaired photo has not been downloaded. Open another one?")) return photo.close();
    for (const one of new Set([...past, ...future, now].map((step) => step?.photo).concat(original, result, answers.map((one) => one.photo)))) one?.close();
    original = photo;
    past = [];
    future = [];
    result = null;
    answers = [];
    unsaved = used = false;
    $("name").textContent = photo.name;
    document.title = `${photo.name} - cicm`;
    now = { photo, mask: new Mask(photo.width, photo.height) };
    chooseSize(startSize());
    enter("paint");
    view.show(now.photo, now.mask);
    stage.focus({ preventScroll: true });
    say(`${photo.name}, ${photo.width} by ${photo.height} pixels. Paint over what should go.`);
  } catch (error) {
    complain(error);
  } finally {
    if (turn === opening) document.body.classList.remove("opening");
  }
}

async function loadMask(file) {
  calm();
  try {
    const other = await Photo.open(file, file.name, server?.limits, server?.formats);
    const { photo, mask } = now;
    if (other.width !== photo.width || other.height !== photo.height) {
      const turned = other.width === photo.height && other.height === photo.width ? " It would fit turned by 90 degrees." : "";
      throw new Problem(
        `The mask is ${other.width} x ${other.height} pixels, the photo ${photo.width} x ${photo.height}.${turned} Draw the mask on the photo itself.`,
      );
    }
    if (other.bitmap.width !== other.width) throw new Problem("This browser can't read masks of that format. Save the mask as PNG.");
    const bytes = other.toMask();
    other.close();
    if (!bytes.includes(1)) throw new Problem("The mask has no white in it. White means fill; invert it if black does.");
    change(() => mask.add(bytes));
  } catch (error) {
    complain(error);
  }
}

/** One step that is undone as a whole. */
function change(work) {
  tools.cancel();
  now.mask.begin();
  work();
  if (now.mask.finish()) stepped();
  view.redrawMask(null);
  refresh();
}

function stepped() {
  used = true;
  future = [];
  refresh();
  say(`${percent(now.mask.share)} of the photo is marked.`);
}

function undo() {
  if (is("compare")) return back();
  if (!is("paint")) return;
  tools.cancel();
  if (now.mask.undo()) view.redrawMask(null);
  else if (past.length) {
    future.push(now);
    now = past.pop();
    view.show(now.photo, now.mask, { keep: true });
    say("Back to before the last repair.");
  }
  refresh();
}

function redo() {
  if (!is("paint")) return;
  tools.cancel();
  if (now.mask.redo()) view.redrawMask(null);
  else if (future.length) {
    past.push(now);
    now = future.pop();
    view.show(now.photo, now.mask, { keep: true });
  }
  refresh();
}

// Repair ---------------------------------------------------------------------------------------------------------------

const chosenFill = () => document.querySelector("[name=fill]:checked").value;

/** What "Another" would ask for; `same` if only its seed is new. */
function nextAnswer() {
  const fill = chosenFill();
  const alike = answers.filter((one) => one.fill === fill && one.version === album.version);
  return { fill, seed: 1 + Math.max(-1, ...alike.map((one) => one.seed)), same: alike.length > 0 };
}

async function repair() {
  if ($("repair").disabled || !is("paint")) return;
  tools.cancel();
  const answer = await ask(chosenFill(), 0);
  if (!answer) return;
  keep(now);
  future = [];
  answers = [answer];
  split(0.5);
  showAnswer(answer);
  $("split").focus({ preventScroll: true });
}

async function another() {
  if ($("another").disabled || !is("compare")) return;
  const { fill, seed } = nextAnswer();
  const answer = await ask(fill, seed);
  if (!answer) return;
  answers.push(answer);
  if (answers.length > mostKept(answer.photo)) answers.splice(answers[0].photo === result ? 1 : 0, 1)[0].photo.close();
  showAnswer(answer);
  $("another").focus({ preventScroll: true });
}

function showAnswer(answer) {
  result = answer.photo;
  unsaved = true;
  document.querySelector(`[name=fill][value=${answer.fill}]`).checked = true;
  enter("compare");
  view.compare(original, result);
  $("told").classList.remove("warn");
  $("told").textContent = answer.told;
  say(`Repaired. ${answer.told}`);
}

function step(by) {
  const at = answers.findIndex(({ photo }) => photo === result) + by;
  if (is("compare") && answers[at]) showAnswer(answers[at]);
}

/** One answer of the server, or null: cancelled, or refused and told. */
async function ask(fill, seed) {
  const from = document.body.dataset.state;
  const version = album.version, others = album.files;
  calm();
  closePanels();
  document.body.classList.toggle("again", from === "compare");
  enter("busy");
  $("cancel").focus();
  running = new AbortController();
  const { signal } = running;
  const begun = performance.now();
  let sent = 0;
  const told = setInterval(async () => {
    const seconds = Math.round((performance.now() - begun) / 1000);
    if (sent < 1) return;
    const others = seconds >= 2 ? await waiting() : null;
    if (signal.aborted || !is("busy")) return;
    const line = others > 0 ? `, ${others} ${others === 1 ? "other waits" : "others wait"}` : "";
    $("busy-text").textContent = `Repairing, ${seconds} s${line}`;
  }, 1000);
  try {
    $("busy-text").textContent = "Sending";
    $("progress").removeAttribute("value");
    const grow = Math.max(0, Math.min(512, Math.round(Number($("grow").value) || 0)));
    const form = { image: now.photo.blob, mask: await now.mask.toPNG(), grow: grow || undefined, format: $("format").value || undefined, fill, seed, album: others };
    const answer = await send("/api/v1/inpaint", form, {
      signal,
      sent: (share) => {
        sent = share;
        $("progress").value = share;
        if (share >= 1) {
          $("progress").removeAttribute("value");
          $("busy-text").textContent = "Repairing";
        }
      },
    });
    const suffix = SUFFIXES[answer.blob.type] ?? "png";
    const photo = await Photo.open(answer.blob, `${stem(original.name)}-repaired.${suffix}`);
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    const notes = answer.header("Cicm-Notes");
    const how = howFilled(answer.header("Cicm-Fill"), answer.header("Cicm-Lenders"), others.length);
    return { photo, fill, seed, version, told: `${percent(Number(answer.header("Cicm-Missing")))} filled in ${seconds} s, ${how}${notes ? `. Note: ${notes}` : ""}` };
  } catch (error) {
    enter(from);
    (from === "paint" ? stage : $("another")).focus({ preventScroll: true });
    if (error.name === "AbortError") say("Cancelled.");
    complain(error);
    return null;
  } finally {
    clearInterval(told);
    document.body.classList.remove("again");
    running = null;
  }
}

/** One line on where the new pixels are from. */
function howFilled(fill, lenders, tried) {
  if (lenders) return `with pixels of ${list(lenders.split(",").map(decodeURIComponent))}`;
  const way = { both: "with real pixels of this photo, joined smoothly", network: "smoothly", exemplar: "with real pixels of this photo" }[fill];
  if (!tried) return way;
  return `${way}; ${tried === 1 ? "the other photo does not show" : "none of the other photos shows"} this spot`;
}

const list = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

/** Remembers what came before a repair; not more of it than a browser can hold. */
function keep(step) {
  past.push(step);
  while (past.length > mostKept(step.photo)) {
    const { photo } = past.shift();
    if (photo !== original) photo.close();
  }
}

const mostKept = (photo) => (photo.width * photo.height > 24e6 ? 2 : 8);

/** Keeps the answer that is shown, and lets go of the others. */
function settle() {
  for (const { photo } of answers) if (photo !== result) photo.close();
  answers = [];
}

function back() {
  settle();
  future.push({ photo: result, mask: new Mask(result.width, result.height) });
  result = null;
  now = past.pop();
  enter("paint");
  view.show(now.photo, now.mask, { keep: true });
  stage.focus({ preventScroll: true });
  say("The repair is undone; the mask is as it was.");
}

function goOn() {
  settle();
  now = { photo: result, mask: new Mask(result.width, result.height) };
  result = null;
  enter("paint");
  view.show(now.photo, now.mask, { keep: true });
  stage.focus({ preventScroll: true });
  say("Paint on the result.");
}

function save() {
  const photo = is("compare") ? result : now.photo;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(photo.blob);
  link.download = photo.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
  say(`${photo.name} is saved by the browser.`);
}

const stem = (name) => name.replace(/\.[^.]{1,5}$/, "").replace(/-repaired$/, "") || "photo";

function split(share) {
  view.split = share;
  $("split").value = Math.round(100 * share);
  if (view.comparing) view.redraw();
}

/** Shows the photo as it was, as long as a button or its key is held. */
function hold(held) {
  if (view.held === held || !is("compare")) return;
  view.held = held;
  view.redraw();
}

// Brush size: the slider runs from one pixel to half the short side, evenly in steps of a ratio ------------------------------

const largest = () => Math.max(16, Math.min(now.photo.width, now.photo.height) / 2);
const startSize = () => Math.max(4, Math.min(now.photo.width, now.photo.height) / 14);

function chooseSize(size) {
  const wanted = Math.max(1, Math.min(largest(), size));
  tools.setSize(wanted);
  $("size").value = (100 * Math.log(wanted)) / Math.log(largest());
  tellSize();
}

function tellSize() {
  const text = `${Math.round(tools.size)} px`;
  $("size-told").textContent = text;
  $("size").setAttribute("aria-valuetext", text);
}

$("size").addEventListener("input", () => {
  tools.setSize(Math.max(1, largest() ** ($("size").value / 100)));
  tellSize();
  // Show how large that is, in the middle of what is seen.
  const [x, y] = view.toPhoto(view.width / 2, view.height / 2);
  view.pointer = { x, y, radius: tools.radius, cross: false };
  view.redrawTop();
});
$("size").addEventListener("change", () => { view.pointer = null; view.redrawTop(); });

// Buttons ----------------------------------------------------------------------------------------------------------------

const picker = (input, take) => {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) take(...files);
  });
  return () => input.click();
};
const choosePhoto = picker($("photo-file"), load);
const chooseMask = picker($("mask-file"), loadMask);
const chooseOthers = picker($("album-file"), addOthers);

const press = (id, action) => $(id).addEventListener("click", action);
press("choose", choosePhoto);
press("new", choosePhoto);
press("load-mask", chooseMask);
press("invert", () => change(() => now.mask.invert()));
press("clear", () => change(() => now.mask.clear()));
press("undo", undo);
press("redo", redo);
press("zoom-in", () => view.zoom(1.5));
press("zoom-out", () => view.zoom(1 / 1.5));
press("zoom-fit", () => view.fit());
press("repair", repair);
press("cancel", () => running?.abort());
press("another", another);
press("earlier", () => step(-1));
press("later", () => step(1));
press("album-add", chooseOthers);
press("album-clear", () => { album.clear(); $("album-add").focus(); });
press("back", back);
press("go-on", goOn);
press("save", save);
press("save-paint", save);
press("help-open", () => $("help").showModal());
$("alert").querySelector("button").addEventListener("click", calm);
$("split").addEventListener("input", () => split($("split").value / 100));
$("hold").addEventListener("pointerdown", (event) => {
  $("hold").setPointerCapture(event.pointerId);
  hold(true);
});
for (const kind of ["lostpointercapture", "blur"]) $("hold").addEventListener(kind, () => hold(false));
for (const kind of ["keydown", "keyup"]) {
  $("hold").addEventListener(kind, (event) => {
    if (event.key === " " || event.key === "Enter") hold(kind === "keydown");
  });
}
$("hold").addEventListener("contextmenu", (event) => event.preventDefault()); // a long press is no right click
document.querySelector(".brand").addEventListener("click", (event) => {
  if (is("start")) event.preventDefault();
});
for (const radio of document.querySelectorAll("[name=fill]")) {
  radio.addEventListener("change", () => {
    refresh();
    $("told").classList.remove("warn");
    $("told").textContent = WAYS[radio.value];
  });
}
for (const radio of document.querySelectorAll("[name=tool]")) {
  radio.addEventListener("change", () => pick(radio.value));
}
document.addEventListener("pointerdown", (event) => {
  closePanels(event.target);
});
for (const panel of [$("options"), $("album")]) {
  panel.addEventListener("toggle", () => panel.open && closePanels(panel));
}

/** Closes the panels, but for one that holds an element. */
function closePanels(inside = null) {
  for (const panel of [$("options"), $("album")]) if (panel.open && !panel.contains(inside)) panel.open = false;
}

for (const child of [$("busy"), document.querySelector(".zoom")]) {
  for (const kind of ["pointerdown", "pointermove", "wheel", "keydown"]) child.addEventListener(kind, (event) => event.stopPropagation());
}

function pick(tool) {
  document.querySelector(`[name=tool][value=${tool}]`).checked = true;
  tools.select(tool);
  document.querySelector(".size").classList.toggle("idle", tool !== "brush" && tool !== "eraser");
}

tools.onstep = stepped;
tools.onsplit = split;
tools.onpen = (down) => say(down ? "Pen down." : `Pen up. ${percent(now.mask.share)} of the photo is marked.`);
view.onchange = refresh;

// Keys, wherever the focus is, but for fields --------------------------------------------------------------------------------

const TOOLS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", h: "hand" };

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=range]):not([type=radio]), select, textarea");
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (command && !typing) {
    const action = key === "z" ? (event.shiftKey ? redo : undo) : key === "y" ? redo : key === "enter" ? repair : null;
    if (action && !is("start")) {
      event.preventDefault();
      action();
    }
    return;
  }
  if (event.key === "Escape") {
    calm();
    closePanels();
    if (is("busy")) running?.abort();
    else if (is("paint")) tools.cancel();
    return;
  }
  if (typing || event.altKey || is("start") || is("busy")) return;
  if (event.key === "+" || event.key === "=") view.zoom(1.25);
  else if (event.key === "-") view.zoom(1 / 1.25);
  else if (event.key === "0") view.fit();
  else if (is("compare")) {
    if (key === "a") another();
  } else if (is("paint")) {
    if (TOOLS[key]) pick(TOOLS[key]);
    else if (event.key === "[") chooseSize(tools.size / 1.25);
    else if (event.key === "]") chooseSize(tools.size * 1.25);
    else if (key === "i") $("invert").click();
    else if (event.key === "Delete") $("clear").click();
  }
});

// Other photos -----------------------------------------------------------------------------------------------------------

async function addOthers(...files) {
  calm();
  document.body.classList.add("opening");
  try {
    await known;
    if (!server) return;
    await album.add(files, server, now?.photo.blob.size ?? 0);
  } catch (error) {
    complain(error);
  } finally {
    document.body.classList.remove("opening");
  }
}

album.onchange = () => {
  const count = album.photos.length;
  $("album-count").hidden = $("album-clear").hidden = !count;
  $("album-count").textContent = count;
  $("album-told").textContent = count ? `${count} of ${server.limits.max_album}. They are sent with each repair, used for it alone, and stored nowhere.` : "";
  say(count ? `${count} other ${count === 1 ? "photo" : "photos"}.` : "No other photos.");
  refresh();
};

// Drop and paste ---------------------------------------------------------------------------------------------------------

let depth = 0;
const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  depth++;
  document.body.classList.add("dropping");
});
document.addEventListener("dragover", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  $("drop-album").classList.toggle("over", forAlbum(event));
});
document.addEventListener("dragleave", (event) => {
  if (carries(event) && --depth <= 0) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const others = forAlbum(event), files = [...event.dataTransfer.files];
  depth = 0;
  document.body.classList.remove("dropping");
  if (others && files.length) {
    addOthers(...files);
    $("album").open = true;
  } else if (files.length) load(files[0]);
});

/** Several photos, or one dropped on the place for it, beside a photo that is open. */
function forAlbum(event) {
  if (is("start") || !server?.album) return false;
  const { left, right, top, bottom } = $("drop-album").getBoundingClientRect();
  const within = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  return within || [...event.dataTransfer.items].filter((item) => item.kind === "file").length > 1;
}

document.addEventListener("paste", (event) => {
  const item = [...(event.clipboardData?.items ?? [])].find((one) => one.kind === "file");
  if (item) {
    event.preventDefault();
    load(item.getAsFile());
  }
});
window.addEventListener("beforeunload", (event) => unsaved && event.preventDefault());

// Start ------------------------------------------------------------------------------------------------------------------

function askToken() {
  if (!$("token").open) $("token").showModal();
}

$("token").addEventListener("close", () => {
  setToken($("token-text").value.trim());
  $("token-text").value = "";
  known = meet();
});

async function meet() {
  try {
    server = await info();
    const { model, version, limits } = server;
    $("about").textContent =
      `cicm ${version}, model ${model.name} (${(model.parameters / 1e6).toFixed(1)} million parameters) on ${model.device}. ` +
      `Photos up to ${Math.round(limits.max_pixels / 1e6)} megapixels and ${Math.round(limits.max_bytes / 2 ** 20)} MiB.`;
    $("grow").max = limits.max_grow;
    $("album").hidden = !server.album;
    document.body.classList.toggle("no-album", !server.album);
    $("fills").hidden = server.fills.length < 2;
    document.querySelector(`[name=fill][value=${server.fills[0]}]`).checked = true;
    for (const option of [...$("format").options]) if (option.value && !server.answers.includes(option.value)) option.remove();
  } catch (error) {
    complain(error);
  }
}

findToken();
let known = meet();
enter("start");
document.documentElement.dataset.ready = "yes";
