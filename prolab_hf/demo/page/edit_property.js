// The properties themselves: rename, merge two that mean the same, split one that means two things, remove, add.
import { button, make, option } from "./dom.js";
import { Picker } from "./picker.js";
import { model } from "./store.js";

export function propertyForm({ apply }) {
  const node = make("div"), chosen = make("select", undefined, "input"), name = make("input", undefined, "input");
  const merged = make("select", undefined, "input"), part = make("input", undefined, "input");
  const problem = make("p", "", "problem");
  const phrases = new Picker("Phrases that leave it"), owners = new Picker("Classes that show it");
  const phrase = make("input", undefined, "input");
  const form = make("div", undefined, "editing"), adding = make("div", undefined, "editing");
  problem.setAttribute("role", "alert");
  chosen.id = "property-choice";
  for (const [input, label] of [
    [chosen, "Property to change"], [name, "Name of the property"], [merged, "Property to merge it with"],
    [part, "Name of the part that is split off"], [phrase, "What can be seen"],
  ]) {
    input.setAttribute("aria-label", label);
    if (input.tagName === "INPUT") Object.assign(input, { maxLength: 80, autocomplete: "off", placeholder: label });
  }
  const act = edits => apply(edits, problem);
  const row = (...nodes) => { const one = make("div", undefined, "row action"); one.append(...nodes); return one; };
  const now = () => model().properties[Number(chosen.value)];
  const rename = button("Rename", "button small", () =>
    act([{ edit: "rename_property", old: now(), new: name.value.trim() }]));
  const merge = button("Merge", "button small", () =>
    act([{ edit: "merge_properties", name: name.value.trim() || now(), properties: [now(), merged.value] }]));
  const split = button("Split", "button small", () =>
    act([{ edit: "split_property", property_name: now(), phrases: phrases.chosen,
           name: part.value.trim() || phrases.chosen[0] || "" }]));
  const remove = button("Remove the property", "button small", () =>
    act([{ edit: "remove_properties", properties: [now()] }]));
  const add = button("Add the property", "button small", async () => {
    const done = await act([{ edit: "add_property", phrase: phrase.value.trim(), classes: owners.chosen }]);
    if (done) { phrase.value = ""; owners.set(model().classes.map(one => one.name)); }
  });
  const splitting = make("div");
  splitting.append(phrases.node, row(part, split));
  form.append(row(name, rename), row(make("span", "Merge with", "soft"), merged, merge), splitting, row(remove));
  adding.append(make("h3", "A new property"), phrase, owners.node, row(add));
  node.append(make("p", "Properties are shared: a change is seen in every class that has the property.", "soft"),
              chosen, form, problem, adding);
  chosen.onchange = () => fill();

  function fill() {
    const { properties, phrases: known, classes, encoder } = model(), before = chosen.value;
    const order = properties.map((text, k) => [text, k])
      .sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
    chosen.replaceChildren(...order.map(([text, k]) => option(String(k), text)));
    chosen.value = Number(before) < properties.length && before !== "" ? before : chosen.options[0].value;
    name.value = now();
    merged.replaceChildren(...[...chosen.options].filter(one => one.value !== chosen.value)
      .map(one => option(one.textContent, one.textContent)));
    const said = known[chosen.value] || [];
    splitting.hidden = said.length < 2;
    phrases.set(said);
    part.value = "";
    adding.hidden = !encoder.available;
    owners.set(classes.map(one => one.name), owners.chosen);
  }
  return { node, fill };
}
