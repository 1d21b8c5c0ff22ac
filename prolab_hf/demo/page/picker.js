// A list of names to tick, with a search field above and what was ticked below.
import { button, make, matching } from "./dom.js";

const inOrder = new Intl.Collator("en", { numeric: true });

export class Picker {
  constructor(legend, onChange = () => {}) {
    this.names = [];
    this.ticked = new Set();
    this.first = new Set();
    this.onChange = onChange;
    this.node = make("fieldset");
    this.search = make("input", undefined, "input");
    Object.assign(this.search, { type: "search", placeholder: "Find", autocomplete: "off" });
    this.search.setAttribute("aria-label", `Find in: ${legend}`);
    this.search.oninput = () => this.draw();
    this.list = make("div", undefined, "list");
    this.chips = make("div", undefined, "chips");
    this.node.append(make("legend", legend), this.search, this.list, this.chips);
  }

  set(names, ticked = []) {
    const known = new Set(names), isSame = !this.search.value && names.join("\n") === this.names.join("\n");
    this.names = names;
    this.ticked = new Set(ticked.filter(name => known.has(name)));
    this.search.value = "";
    this.search.hidden = names.length < 8;
    const isThere = isSame && this.boxes && [...this.ticked].every(name => this.first.has(name)) &&
      this.first.size === this.ticked.size;
    this.first = new Set(this.ticked);  // what is ticked from the start stands first, and stays in its place
    if (!isThere) { this.draw(); return; }
    for (const [name, box] of this.boxes) box.checked = this.ticked.has(name);
    this.drawChips();
  }

  get chosen() { return this.names.filter(name => this.ticked.has(name)); }

  toggle(name, on) {
    if (on) this.ticked.add(name); else this.ticked.delete(name);
    this.drawChips();
    this.onChange();
  }

  draw() {
    const shown = this.names.filter(matching(this.search.value))
      .sort((a, b) => this.first.has(b) - this.first.has(a) || inOrder.compare(a, b));
    this.boxes = new Map();
    this.list.replaceChildren(...shown.map(name => {
      const label = make("label"), box = make("input");
      box.type = "checkbox";
      box.checked = this.ticked.has(name);
      this.boxes.set(name, box);
      box.onchange = () => this.toggle(name, box.checked);
      label.append(box, make("span", name, "name"));
      return label;
    }));
    if (!shown.length) this.list.append(make("p", "Nothing has these words.", "soft"));
    this.drawChips();
  }

  drawChips() {
    this.chips.replaceChildren(...this.chosen.map(name => {
      const chip = button(`${name} ×`, "chip", () => { this.toggle(name, false); this.draw(); });
      chip.setAttribute("aria-label", `Without ${name}`);
      return chip;
    }));
  }
}
