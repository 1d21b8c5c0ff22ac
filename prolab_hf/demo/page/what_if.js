// "What if a property were seen more, or not at all?" The map follows the slider; the network is not asked again.
import { call, guarded, steadily } from "./api.js";
import { $, button, make, percent } from "./dom.js";
import { emit, model, on, result, store } from "./store.js";

let changes = new Map();  // name of the property -> score
let told = null;          // what the server said about them

const whole = () => !(store.place && store.place.outline);
const indexOf = name => model().properties.indexOf(name);
const about = () => "What if " + [...changes].map(([name, value]) => `“${name}” were ${value.toFixed(2)}`).join(" and ") +
  (whole() ? "?" : " in the region?");

const ask = steadily(() => guarded(async () => {
  if (!changes.size || !store.image) return;
  const fields = { image: store.image.key, model: store.active, mode: store.mode,
                   changes: [...changes].map(([name, value]) => [indexOf(name), value]),
                   ...(whole() ? {} : { outline: store.place.outline }) };
  const answer = await call("intervene", fields);
  if (!changes.size) return;
  told = answer;
  store.override = { about: about(), classes: model().classes, runs: answer.runs, shares: answer.shares };
  store.view = "classes";
  emit("results");
  drawChanges();
}));

function change(name, value) {
  changes.set(name, value);
  ask();
}

export function reset() {
  const had = changes.size;
  changes = new Map();
  told = null;
  if (!had) return;
  store.override = null;
  emit("results");
}

function leave(name) {
  changes.delete(name);
  if (changes.size) ask(); else reset();
  draw();
}

function draw() {
  const panel = $("what-if"), { heat } = store;
  panel.hidden = !result() || model().similarity === "cosine" || !(heat || changes.size);
  if (panel.hidden) { panel.replaceChildren(); return; }
  const slider = make("input"), label = make("label", undefined, "field"), shown = make("span", "", "number");
  if (heat) {
    Object.assign(slider, { type: "range", min: 0, max: 1, step: .01, id: "what-if-score",
                            value: changes.get(heat.name) ?? heat.mean });
    slider.oninput = () => { shown.textContent = Number(slider.value).toFixed(2); change(heat.name, Number(slider.value)); };
    shown.textContent = Number(slider.value).toFixed(2);
    const where = whole() ? "everywhere" : "in the region";
    label.append(make("span", `What if it were seen like this ${where}?`), slider, shown);
  }
  const outcome = make("div");
  outcome.id = "what-if-outcome";
  panel.replaceChildren(...(heat ? [label] : []), outcome);
  drawChanges();
}

function drawChanges() {
  const node = $("what-if-outcome");
  if (!node) return;
  node.replaceChildren();
  if (!changes.size) return;
  const chips = make("div", undefined, "chips");
  chips.append(...[...changes].map(([name, value]) => {
    const chip = button(`${name}: ${value.toFixed(2)} ×`, "chip", () => leave(name));
    chip.setAttribute("aria-label", `${name} as the model sees it`);
    return chip;
  }), button("All as seen", "button small", () => { reset(); draw(); }));
  node.append(chips);
  if (!told) return;
  const flows = told.flows.slice(0, 3).map(([old, now, share]) => `${old} → ${now} ${percent(share)}`);
  node.append(make("p", told.changed ? `${percent(told.changed)} of the pixels change: ${flows.join(", ")}.`
                                     : "No pixel changes its class.", "soft"));
}

export function connectWhatIf() {
  on("view", draw);
  on("image", () => { changes = new Map(); told = null; draw(); });
  on("models", () => { reset(); draw(); });
  on("answer", () => { if (changes.size) ask(); draw(); });
}
