// Other words for a class that is there: rename, tick, describe anew, merge, remove.
import { button, make, option, swatch } from "./dom.js";
import { Picker } from "./picker.js";
import { model } from "./store.js";

export function classForm({ apply }) {
  const node = make("div"), list = make("div", undefined, "list classes"), form = make("div", undefined, "editing");
  const problem = make("p", "", "problem"), name = make("input", undefined, "input");
  const sentences = make("textarea", undefined, "input");
  const merged = make("select", undefined, "input"), picker = new Picker("Its properties");
  let open = "";
  problem.setAttribute("role", "alert");
  Object.assign(name, { maxLength: 80, autocomplete: "off", id: "class-name" });
  name.setAttribute("aria-label", "Name of the class");
  sentences.rows = 5;
  sentences.setAttribute("aria-label", "Its words, one sentence per line");
  merged.setAttribute("aria-label", "Class to merge it with");
  const act = async (edits, next) => {
    const before = open;
    open = next ?? open;
    if (!await apply(edits, problem)) open = before;
  };
  const row = (...nodes) => { const one = make("div", undefined, "row action"); one.append(...nodes); return one; };
  name.onkeydown = event => { if (event.key === "Enter") rename(); };
  const rename = () => act([{ edit: "rename_class", old: open, new: name.value.trim() }], name.value.trim());
  const tick = button("Use these properties", "button small", () =>
    act([{ edit: "set_row", class_name: open, properties: picker.chosen }]));
  const describe = button("Use these words", "button small", () => act([{ edit: "describe_class", name: open,
    sentences: sentences.value.split("\n").map(text => text.trim()).filter(Boolean) }]));
  const merge = button("Merge", "button small", () => act([{ edit: "merge_classes", name: name.value.trim() || open,
    classes: [open, merged.value] }], name.value.trim() || open));
  const remove = button("Remove the class", "button small", () => act([{ edit: "remove_classes", classes: [open] }], ""));
  const words = make("label", undefined, "field");
  words.append(make("span", "Its words, one sentence per line"), sentences);
  form.append(row(name, button("Rename", "button small", rename)), picker.node, row(tick), words, row(describe),
              row(make("span", "Merge with", "soft"), merged, merge), row(remove), problem);
  node.append(make("p", "Choose a class to change its words.", "soft"), list, form);

  function choose(one) {
    open = one === open ? "" : one;
    problem.textContent = "";
    fill();
  }

  function fill() {
    const { classes, properties, encoder } = model();
    if (!classes.some(one => one.name === open)) open = "";
    list.replaceChildren(...classes.map(one => {
      const entry = button(undefined, "bar", () => choose(one.name)), line = make("span", undefined, "row");
      const kind = one.described ? "known from words" : "";
      const text = make("span", one.name, "name");
      if (kind) text.append(" ", make("span", kind, "soft"));
      line.append(swatch(one.color), text, make("span", `${one.properties.length} properties`, "number"));
      entry.append(line);
      entry.dataset.key = one.name;
      entry.setAttribute("aria-pressed", one.name === open);
      return entry;
    }));
    form.hidden = !open;
    if (!open) return;
    const one = classes.find(other => other.name === open);
    name.value = one.name;
    picker.set(properties, one.properties.map(k => properties[k]));
    sentences.value = one.sentences.join("\n");
    words.hidden = describe.hidden = !one.sentences.length && !encoder.available;
    const others = classes.filter(other => other.name !== open);
    merged.replaceChildren(...others.map(other => option(other.name, other.name)));
    merge.disabled = remove.disabled = classes.length < 2;
  }
  return { node, fill };
}
