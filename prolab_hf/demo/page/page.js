// The page of `prolab demo`: one image, the label map over it, and three kinds of questions beside it.
import { ask, busy, call, download, guarded, recover } from "./api.js";
import { $, button, isNarrow, make, nextFrame, percent, reveal, swatch, track } from "./dom.js";
import { connectGallery, drawGallery, drawSample } from "./gallery.js";
import { connectMini } from "./mini.js";
import { connectProperties, showProperty } from "./properties.js";
import { classIds, Frame } from "./stage.js";
import { emit, model, on, painted, result, store } from "./store.js";
import { connectWords } from "./words.js";
import { connectWhatIf } from "./what_if.js";
import * as why from "./why.js";

const TABS = ["why", "seen", "words"];

// ---- state of the server ----------------------------------------------------------------------------------------
async function refresh() {
  const state = await call("state");
  Object.assign(store, { models: state.models, images: state.images, heatScale: state.heat, maxBytes: state.max_bytes });
  const steps = store.heatScale.map((color, k) => `${color} ${100 * k / (store.heatScale.length - 1)}%`);
  document.documentElement.style.setProperty("--heat", `linear-gradient(to right, ${steps.join()})`);
  if (!store.frames.length) {
    store.frames = store.models.map((_, number) => new Frame(number, { onPlace, onHover }));
    $("frames").replaceChildren(...store.frames.map(frame => frame.node));
    $("frames").classList.toggle("two", store.frames.length > 1);
    connectMini();
  }
  emit("models");
}

// ---- images -----------------------------------------------------------------------------------------------------
async function look(image, first) {
  Object.assign(store, { image, results: first ? [first] : [], place: null, answer: null, heat: null, lit: null, rival: "",
                         override: null, moved: null });
  if (store.view === "property") store.view = "classes";
  if (!canSlide()) store.mode = "whole";
  emit("image");
  await answerAll(first && store.mode === "whole" ? 0 : -1);
}

// The label map of every model, except of one that is known already.
async function answerAll(known = -1) {
  if (!store.image) return;
  const { key } = store.image, { mode } = store;
  const answers = await ask("results", () => busy(() => Promise.all(store.models.map((_, number) =>
    number === known ? store.results[number] : call("result", { image: key, model: number, mode })))));
  if (!answers) return;
  store.results = answers;
  if (answers.some((answer, number) => answer.version !== store.models[number].version)) await refresh();  // another window
  if (store.lit !== null && store.lit !== "differ" && !shares().some(([name]) => name === store.lit)) store.lit = null;
  emit("results");
  await explainAgain();
}

function shares() {
  const found = painted(store.active);
  return found ? found.shares.map(([id, share]) => [found.classes[id].name, share, found.classes[id].color]) : [];
}
const canSlide = () => store.image && store.image.full[0] > store.image.width;

// After an edit of the active model: its new map at once, then its new words, and where pixels went.
async function edited(answer) {
  const before = store.results[store.active], was = model().classes;
  store.override = null;
  store.models[store.active] = answer.state;
  Object.assign(store, { heat: null, moved: null });
  if (store.view === "property") store.view = "classes";
  if (answer.result) {
    store.results[store.active] = answer.result;
    if (before && store.image) {
      const size = store.image.width * store.image.height;
      store.moved = moves(classIds(before.runs, size), was, classIds(answer.result.runs, size), model().classes,
                          answer.effect.renamed);
    }
    if (store.lit !== null && store.lit !== "differ" && !shares().some(([name]) => name === store.lit)) store.lit = null;
    for (const frame of store.frames) frame.show();
    drawView();
    emit("edited");
    await nextFrame();
  }
  emit("models");
  if (answer.result) await explainAgain();
}

// The same place with other words, or by another model; the same class where it is still there.
async function explainAgain() {
  if (!store.place) return;
  const names = model().classes.map(one => one.name), asked = store.answer;
  const isWhole = !("x" in store.place || store.place.outline);
  const stays = asked && names.includes(asked.class) && (isWhole || asked.class !== asked.predicted_class);
  const kept = stays ? asked.class : "";
  if (isWhole && !kept) { Object.assign(store, { place: null, answer: null }); emit("answer"); return; }
  await explain(kept, names.includes(store.rival) ? store.rival : "");
}

// [from, to, share], most first; a class that goes on under another name did not move, nor when that is taken back.
function moves(before, was, after, now, renamed) {
  const ids = new Map(), names = [];
  const known = classes => Uint16Array.from(classes, ({ name }) => {
    if (!ids.has(name)) { ids.set(name, names.length); names.push(name); }
    return ids.get(name);
  });
  const old = known(was), now_ = known(now), counts = new Map();
  for (let at = 0; at < before.length; at++) {
    const from = old[before[at]], to = now_[after[at]];
    if (from !== to) counts.set(from << 16 | to, (counts.get(from << 16 | to) || 0) + 1);
  }
  return [...counts].map(([pair, count]) => [names[pair >>> 16], names[pair & 0xffff], count / before.length])
    .filter(([from, to]) => renamed[from] !== to && renamed[to] !== from).sort((a, b) => b[2] - a[2]);
}

// ---- questions about a place ------------------------------------------------------------------------------------
function onPlace(frame, place) {
  if (frame.number !== store.active) setActive(frame.number);
  store.place = place;
  store.rival = "";
  openTab("why");
  return explain("", "").then(showAnswer);
}

function explain(name, rival) {
  return guarded(async () => {
    const { place, image } = store;
    const where = "x" in place ? { point: [place.x, place.y] } : place;
    const fields = { image: image.key, model: store.active, mode: store.mode, ...where,
                     ...(name && { class_name: name }), ...(rival && { rival }) };
    const answer = await ask("why", () => call("explain", fields));
    if (!answer) return;
    store.answer = answer;
    store.rival = rival;
    emit("answer");
  });
}

function onHover(frame, spot) {
  const name = spot ? frame.nameAt(spot) : "";
  say(name ? `${name} at ${spot.x}, ${spot.y}` : "");
}

function say(text) {
  $("where").textContent = text || (
    store.view === "property" && store.heat ? `${store.heat.name}: bright where it is seen.`
    : store.override ? store.override.about
    : store.image ? `${store.image.note} Click a pixel to see why it got its class, or drag around a region.`.trim() : "");
  if (!text && store.view === "classes" && store.lit && store.lit !== "differ" && !store.override) {
    $("where").append(" ", button(`Why is all this ${store.lit}?`, "button small", () => explainAll(store.lit)));
  }
}

function explainAll(name) {  // all pixels of a class at once
  store.place = {};
  openTab("why");
  return explain(name, "").then(showAnswer);
}
const showAnswer = () => { if (isNarrow()) reveal($("questions"), "start"); };

// ---- drawing ----------------------------------------------------------------------------------------------------
function drawHeader() {
  const words = store.models.map(one => {
    const described = one.classes.filter(two => two.described).length;
    return `${one.name}: ${one.classes.length} classes${described ? ` (${described} from words alone)` : ""}, ` +
      `${one.properties.length} properties`;
  });
  $("model").textContent = words.join(" · ");
  $("which-model").hidden = store.models.length < 2;
  $("which-model").replaceChildren(...store.models.map((one, number) => {
    const node = button(one.name, "", () => setActive(number));
    node.setAttribute("aria-pressed", number === store.active);
    return node;
  }));
}

function setActive(number) {
  Object.assign(store, { active: number, heat: null, override: null, moved: null });
  if (store.view === "property") store.view = "classes";
  drawHeader();
  for (const frame of store.frames) frame.show();
  emit("models");
  emit("results");
  explainAgain();
}

function drawLegend() {
  const entries = shares().map(([name, share, color]) =>
    legendEntry(name, percent(share), share, color, name, "Show only this class"));
  if (store.models.length > 1 && store.frames.every(frame => frame.ids)) {
    const [one, two] = store.frames, names = store.frames.map(frame => frame.classes.map(entry => entry.name));
    const same = one.ids.reduce((sum, id, at) => sum + (names[0][id] === names[1][two.ids[at]]), 0) / one.ids.length;
    entries.push(legendEntry("the two models differ", percent(1 - same), 1 - same, "var(--soft)", "differ",
                             "Show only where they differ"));
  }
  $("legend").replaceChildren(...entries);
  const spoken = result() && !store.override ? result().spoken_share : 1;
  $("spoken").textContent = spoken >= .9995 ? ""
    : `Words explain ${percent(Math.max(0, spoken))} of the scores in this image.`;
}

function legendEntry(label, value, share, color, lit, title) {
  const node = button(undefined, "entry", () => {
    store.lit = store.lit === lit ? null : lit;
    store.view = "classes";
    emit("view");
  }, title);
  node.append(swatch(color), make("span", label, "name"), make("span", value, "number"), track([[0, share, color]]));
  node.setAttribute("aria-pressed", store.lit === lit);
  return node;
}

function drawView() {
  for (const name of ["classes", "property", "nothing"]) $("show-" + name).setAttribute("aria-pressed", store.view === name);
  $("show-property").disabled = !store.heat;
  $("strength").disabled = store.view === "nothing";
  $("slide").hidden = !canSlide();
  $("slide").setAttribute("aria-pressed", store.mode === "slide");
  if (canSlide()) {
    $("slide").textContent = `At full size (${store.image.full[0]} x ${store.image.full[1]})`;
    $("slide").title = "A window is moved over the image in all its pixels; this takes longer";
  }
  if (store.image) for (const frame of store.frames) frame.draw();
  drawLegend();
  say();
}

function openTab(name) {
  for (const one of TABS) {
    $("tab-" + one).setAttribute("aria-selected", one === name);
    $("tab-" + one).tabIndex = one === name ? 0 : -1;
    $(one).hidden = one !== name;
  }
  emit("tab");
}

// ---- what happens when ------------------------------------------------------------------------------------------
on("models", drawHeader);
on("image", () => { drawGallery(); for (const frame of store.frames) frame.show(); drawView(); why.drawWhy(); });
on("results", () => { for (const frame of store.frames) frame.show(); drawView(); });
on("answer", () => { for (const frame of store.frames) frame.mark(); why.drawWhy(); });
on("view", drawView);
why.connect(index => { openTab("seen"); return showProperty(index); }, explain);
connectProperties();
connectWhatIf();
connectGallery(look);
connectWords(edited);
recover(refresh, async () => { await refresh(); store.image = null; await drawSample(); });

TABS.forEach((name, place) => {
  $("tab-" + name).onclick = () => openTab(name);
  $("tab-" + name).onkeydown = event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = TABS[(place + step + TABS.length) % TABS.length];
    openTab(next);
    $("tab-" + next).focus();
  };
});
for (const name of ["classes", "property", "nothing"]) $("show-" + name).onclick = () => {
  if (!store.image) return;
  store.view = name;
  emit("view");
};
$("strength").oninput = () => { for (const frame of store.frames) frame.draw(); };
$("region").onclick = () => {
  const pressed = $("region").getAttribute("aria-pressed") !== "true";
  $("region").setAttribute("aria-pressed", pressed);
  $("frames").classList.toggle("drawing", pressed);
};
$("slide").onclick = () => guarded(async () => {
  store.mode = store.mode === "slide" ? "whole" : "slide";
  drawView();
  await answerAll();
});
for (const node of document.querySelectorAll("[data-kind]")) node.onclick = () => guarded(() => busy(() =>
  download("download", { image: store.image.key, kind: node.dataset.kind, model: store.active, mode: store.mode })));

guarded(async () => {
  await refresh();
  why.drawWhy();
  if (store.images.length) await look(await call("image", { image: store.images.at(-1).key }));
  else await drawSample();
});
