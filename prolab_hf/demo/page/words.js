// "Words": a class more, other words for a class, properties merged and split; every edit is seen at once and undone
// with one click.
import { busy, call, download, guarded, ServerLost } from "./api.js";
import { addClassForm } from "./add_class.js";
import { $, button, line, make, number, percent, reveal } from "./dom.js";
import { classForm } from "./edit_class.js";
import { propertyForm } from "./edit_property.js";
import { emit, model, on, store } from "./store.js";
import { reset as resetWhatIf } from "./what_if.js";

const SECTIONS = { add: "Add a class", classes: "Classes", properties: "Properties" };
let section = "add", effect = null, notes = "", onEdited = async () => {};
const forms = {};
let stale = new Set();  // forms that are filled when they are opened

export function connectWords(edited) {
  onEdited = edited;
  forms.add = addClassForm({ apply, preview });
  forms.classes = classForm({ apply });
  forms.properties = propertyForm({ apply });
  on("models", draw);
  on("results", drawEffect);
  on("edited", drawEffect);
}

// Makes edits; the form shows what went wrong.
async function apply(edits, problem) {
  if (problem) problem.textContent = "";
  notes = "";
  try {
    const fields = { edits, model: store.active, mode: store.mode, ...(store.image && { image: store.image.key }) };
    const answer = await busy(() => call("edit", fields));
    const isBack = ["undo", "redo"].includes(edits[0].edit);
    effect = answer.effect;
    notes = isBack ? `${edits[0].edit === "undo" ? "Taken back" : "Made again"}: ${effect.text}` : "";
    await onEdited(answer);
    reveal($("history"));
    return answer;
  } catch (error) {
    if (error instanceof ServerLost || error.status === 410 || !problem) throw error;
    problem.textContent = error.message;
    return null;
  }
}

// What edits would do, shown on the image; without edits the map of now comes back.
async function preview(edits, about) {
  const had = store.override;
  resetWhatIf();
  if (!edits) {
    store.override = null;
    if (had) emit("results");
    return null;
  }
  const fields = { edits, model: store.active, ...(store.image && { image: store.image.key }) };
  const answer = await call("preview", fields);
  store.override = answer.shown ? { about, ...answer.shown } : null;
  emit("results");
  return answer;
}

function draw() {
  const panel = $("words");
  if (!panel.firstChild) {
    const history = make("div", undefined, "row history"), tabs = make("div", undefined, "segments tabs");
    history.id = "history";
    tabs.id = "sections";
    const told = make("div", undefined, "effect");
    told.id = "effect";
    told.setAttribute("aria-live", "polite");
    const saved = make("div", undefined, "row save");
    saved.append(make("span", "Save", "soft"),
      button("Edits (patch)", "button small", () => save("patch.json"), "To be reviewed, and applied to another copy"),
      button("Edited model (ZIP)", "button small", () => save("model.zip")));
    panel.append(history, told, tabs, ...Object.values(forms).map(form => form.node), saved);
  }
  drawHistory();
  stale = new Set(Object.keys(forms));
  openSection(section);
  drawEffect();
}

const save = kind => guarded(() => busy(() => download("edited", { kind, model: store.active })));

function openSection(name) {
  if (name !== section) preview(null);
  section = name;
  $("sections").replaceChildren(...Object.entries(SECTIONS).map(([key, text]) => {
    const node = button(text, "", () => openSection(key));
    node.setAttribute("aria-pressed", key === section);
    return node;
  }));
  for (const [key, form] of Object.entries(forms)) form.node.hidden = key !== section;
  if (stale.delete(section)) forms[section].fill();
}

function drawHistory() {
  const { history, undone } = model();
  const undo = button("Undo", "button small", () => guarded(() => apply([{ edit: "undo" }])), history.at(-1));
  const redo = button("Redo", "button small", () => guarded(() => apply([{ edit: "redo" }])), undone[0]);
  undo.id = "undo";
  redo.id = "redo";
  undo.disabled = !history.length;
  redo.disabled = !undone.length;
  const many = `${history.length} ${history.length === 1 ? "edit" : "edits"}`;
  const text = history.length ? many + (store.models.length > 1 ? ` of ${model().name}` : "") : "Nothing was edited yet.";
  $("history").replaceChildren(undo, redo, make("span", text, "soft"));
}

// The IoU of every class that the edit changed, most first.
function everyClass(classes) {
  const size = one => one.before === null || one.after === null ? 2 : Math.abs(one.after - one.before);
  const changed = classes.filter(one => one.before !== one.after && size(one) >= .0005).sort((a, b) => size(b) - size(a));
  if (!changed.length) return [];
  const fold = make("details"), iou = value => value === null ? "none" : number(value);
  fold.append(make("summary", `IoU of ${changed.length === 1 ? "the class" : `the ${changed.length} classes`} that changed`,
                   "soft"));
  fold.addEventListener("toggle", () => fold.append(...changed.map(one => line(one.name,
    one.formerly.length ? `was ${one.formerly.join(", ")}` : "", `${iou(one.before)} → ${iou(one.after)}`, []))),
    { once: true });
  return [fold];
}

function drawEffect() {
  const node = $("effect");
  if (!node) return;
  node.replaceChildren();
  if (!effect || store.override || (!model().history.length && !notes)) return;
  const lines = [notes || effect.text];
  if (store.moved) {
    const moved = store.moved.reduce((sum, [, , share]) => sum + share, 0);
    const most = store.moved.slice(0, 3).map(([from, to, share]) => `${from} → ${to} ${percent(share)}`);
    lines.push(moved ? `In this image ${percent(moved)} of the pixels changed: ${most.join(", ")}.`
                     : "No pixel of this image changed.");
  }
  const means = effect.sample.mean_iou;
  if (means && !notes) {
    lines.push(`Mean IoU on ${effect.sample.num_pixels.toLocaleString("en")} calibration pixels: ` +
               `${number(means.before)} → ${number(means.after)}.`);
  }
  node.append(...lines.map((text, k) => make("p", text, k ? "soft" : "")));
  if (!notes) node.append(...everyClass(effect.sample.classes));
  if (!notes) node.append(...effect.notes.map(text => make("p", text, "soft")));
}

