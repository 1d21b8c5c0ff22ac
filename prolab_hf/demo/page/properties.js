// "Properties": where each is seen, several maps side by side.
import { ask, call, guarded } from "./api.js";
import { $, button, isNarrow, keepFocus, line, make, matching, reveal, track } from "./dom.js";
import { emit, model, on, result, store } from "./store.js";

const MAX_PINNED = 8;
let isStale = true;
let pinned = [];  // property maps that stay in view, newest last

export function showProperty(index) {
  if (!store.image) return undefined;
  return guarded(async () => {
    const answer = await ask("property", () => fetchMap(index));
    if (!answer) return;
    store.heat = answer;
    store.view = "property";
    store.lit = null;
    emit("view");
    if (isNarrow()) reveal($("questions"), "start"); else reveal($("stage"));
  });
}

const fetchMap = index => call("property", { image: store.image.key, index, model: store.active });

async function pin(index) {
  if (pinned.some(one => one.property === index)) pinned = pinned.filter(one => one.property !== index);
  else pinned = [...pinned, await fetchMap(index)].slice(-MAX_PINNED);
  drawPinned();
  drawList();
}

async function fetchAgain() {  // another image, model or meaning: the same properties
  const names = pinned.map(one => one.name).filter(name => model().properties.includes(name));
  pinned = await Promise.all(names.map(name => fetchMap(model().properties.indexOf(name))));
  drawPinned();
}

function drawPinned() {
  $("pinned").hidden = !pinned.length;
  $("pinned").replaceChildren(...pinned.map(one => {
    const tile = make("figure", undefined, "tile"), photo = make("img"), layer = make("img");
    const frame = make("div", undefined, "pair"), words = make("figcaption");
    frame.style.aspectRatio = `${store.image.width} / ${store.image.height}`;
    photo.src = store.image.photo; photo.alt = ""; photo.className = "gray";
    layer.src = one.image; layer.alt = `Where ${one.name} is seen`;
    frame.append(photo, layer);
    frame.onclick = () => showProperty(one.property);
    const remove = button("×", "button small", () => guarded(() => pin(one.property)), "Not beside the others any more");
    remove.setAttribute("aria-label", `Without ${one.name}`);
    words.append(make("span", one.name, "name"), make("span", one.mean.toFixed(2), "number"), remove);
    tile.append(frame, words);
    return tile;
  }));
}

function drawList() {
  isStale = $("seen").hidden;  // drawn when it is opened
  if (!store.models.length || isStale) return;
  const fits = matching($("find").value), means = result() ? result().property_means : [];
  const order = model().properties.map((_, k) => k).filter(k => fits(model().properties[k]))
    .sort((a, b) => (means[b] || 0) - (means[a] || 0));
  keepFocus($("properties"), () => $("properties").replaceChildren(...order.map(index => {
    const mean = means[index] || 0, row = make("div", undefined, "entry-row"), name = model().properties[index];
    const node = line(name, "", result() ? mean.toFixed(2) : "", [track([[0, mean, "var(--accent)"]])],
                      () => showProperty(index), "Show where this property is seen");
    node.dataset.key = name;
    node.setAttribute("aria-pressed", store.heat !== null && store.heat.name === name);
    const isPinned = pinned.some(one => one.name === name);
    const beside = button(isPinned ? "−" : "+", "button small", () => guarded(() => pin(index)),
                          isPinned ? "Not beside the others any more" : "Put its map beside others");
    beside.dataset.key = `+${name}`;
    beside.setAttribute("aria-label", `${isPinned ? "Remove" : "Pin"} the map of ${name}`);
    row.append(node, beside);
    return row;
  })));
  if (!order.length) $("properties").append(make("p", "No property has these words.", "soft"));
  const current = $("properties").querySelector("[aria-pressed=true]");
  if (current) $("properties").scrollTop = Math.max(0, current.parentNode.offsetTop - 120);
}

function drawHead() {
  const head = $("seen-head"), heat = store.heat;
  head.replaceChildren();
  if (!heat) {
    head.append(make("p", "Choose a property to see where the model finds it; + puts its map beside others. The numbers " +
      "are means over the image.", "soft"));
    return;
  }
  const owners = model().classes.filter(one => one.properties.includes(heat.property));
  const scale = make("div", undefined, "scale"), ends = make("div", undefined, "row soft ends");
  ends.append(make("span", "not seen (0)"), make("span", "seen (1)"));
  head.append(make("h2", heat.name),
    make("p", `At most ${heat.max.toFixed(2)}, on average ${heat.mean.toFixed(2)}. ` +
      (owners.length ? `Classes that have it: ${owners.map(one => one.name).join(", ")}.` : "No class has it."), "soft"),
    scale, ends);
}

export function connectProperties() {
  $("find").oninput = drawList;
  on("view", () => { drawHead(); drawList(); });
  on("results", () => { drawHead(); drawList(); });
  on("edited", drawHead);
  on("image", () => guarded(fetchAgain));
  on("models", drawList);
  on("tab", () => { if (isStale) drawList(); });
}
