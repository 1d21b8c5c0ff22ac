// Small things that every part of the page uses. Names reach the page through textContent: what a class or file is
// called is never markup.
export const $ = id => document.getElementById(id);

export function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

export function button(text, className, onclick, title) {
  const node = make("button", text, className);
  node.type = "button";
  node.onclick = onclick;
  if (title) node.title = title;
  return node;
}

export function option(value, text, selected = false) {
  const node = make("option", text);
  node.value = value;
  node.selected = selected;
  return node;
}

export const number = value => value.toFixed(3).replace("-", "−");
export const percent = share => share > 0 && share < .0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

export function swatch(color) {
  const dot = make("span", "", "swatch");
  dot.style.background = color;
  return dot;
}

export function track(parts) {  // parts: [from, to, color], shares of the width
  const node = make("span", undefined, "track");
  for (const [from, to, color] of parts) {
    const part = make("i");
    part.style.left = `${100 * from}%`;
    part.style.width = `${100 * Math.max(0, to - from)}%`;
    part.style.background = color;
    node.append(part);
  }
  return node;
}

// A line of a list: label, note behind it, value on the right, bars below; a button where there is something to do.
export function line(label, note, value, bars, onclick, title) {
  const node = make(onclick ? "button" : "div", undefined, "bar"), row = make("span", undefined, "row");
  const words = make("span", label, "name");
  if (note) words.append(" ", make("span", note, "soft"));
  row.append(words, make("span", value, "number"));
  node.append(row, ...bars);
  if (onclick) { node.type = "button"; node.onclick = onclick; node.title = title || ""; }
  return node;
}

export const matching = text => {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return name => words.every(word => name.toLowerCase().includes(word));
};

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function reveal(node, block = "nearest") {  // on a narrow page it may be out of view
  node.scrollIntoView({ block, behavior: calm() ? "auto" : "smooth" });
}

export const nextFrame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));  // after it was drawn

export const isNarrow = () => matchMedia("(max-width: 900px)").matches;

// Keeps an element's place under the pointer and the keyboard's focus when a list is drawn anew.
export function keepFocus(panel, draw) {
  const key = panel.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  draw();
  if (key !== undefined) panel.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}
