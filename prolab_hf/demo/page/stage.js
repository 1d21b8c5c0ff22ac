// The image with its label map: painted here from class ids, so that it follows an edit at once. Clicks ask about a
// pixel, drags about a region.
import { $, make } from "./dom.js";
import { painted, store } from "./store.js";

const OPACITY = .75;       // of a class's color over the toned-down image
const SHORT_SIDE = 640;    // smaller images are painted enlarged, so that contours stay thin
const DRAG = 6;            // pixels of the screen from which on a press is a drag
const MAX_CORNERS = 400;
const DARK = [18, 21, 28];

const word = ([r, g, b], alpha) => (Math.round(255 * alpha) << 24 | b << 16 | g << 8 | r) >>> 0;
// A layer of a color over another layer of (color, alpha), as one color and alpha.
const over = ([color, alpha], top, share) => {
  const whole = 1 - (1 - alpha) * (1 - share);
  return [color.map((value, k) => Math.round((value * alpha * (1 - share) + top[k] * share) / whole)), whole];
};

// Half of the saturation goes (CSS does that), black is lifted to dark gray, then comes the color: in one layer.
function paints(color) {
  const tint = [1, 3, 5].map(at => parseInt(color.slice(at, at + 2), 16));
  const alpha = 1 - .8 * (1 - OPACITY);
  const layer = [tint.map(value => ((1 - OPACITY) * 50 + OPACITY * value) / alpha), alpha];
  return { plain: word(...over(layer, DARK, 0)), line: word(...over(layer, [255, 255, 255], .55)),
           dim: word(...over(layer, DARK, .78)) };
}

export function classIds(runs, size) {
  const ids = new Uint16Array(size);
  for (let k = 0, at = 0; k < runs.length; k += 2) {
    ids.fill(runs[k], at, at + runs[k + 1]);
    at += runs[k + 1];
  }
  return ids;
}

export class Frame {
  constructor(number, { onPlace, onHover }) {
    this.number = number;
    this.onPlace = onPlace;
    this.onHover = onHover;
    this.cursor = this.corner = this.trail = this.ids = null;
    this.node = make("div", undefined, "framed");
    this.caption = make("div", undefined, "caption name");
    this.box = make("div", undefined, "frame");
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "application");
    this.photo = make("img", undefined, "photo");
    this.photo.alt = "The chosen image";
    this.photo.draggable = false;
    this.heat = make("img", undefined, "layer");
    this.heat.alt = "";
    this.map = make("canvas", undefined, "layer");
    this.lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.lines.setAttribute("preserveAspectRatio", "none");
    this.cross = make("div", undefined, "cross");
    this.box.append(this.photo, this.heat, this.map, this.lines, this.cross);
    this.node.append(this.caption, this.box);
    this.listen();
  }

  show() {  // another image, or another label map; `draw` follows
    const { width, height, photo } = store.image, ratio = width / height;
    if (this.photo.src !== photo) this.photo.src = photo;
    this.box.style.aspectRatio = `${width} / ${height}`;
    this.box.style.width = `min(100%, ${Math.round(62 * ratio)}vh)`;
    this.lines.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.node.classList.toggle("answers", store.models.length > 1 && this.number === store.active);
    this.caption.textContent = store.models[this.number].name;
    this.caption.hidden = store.models.length < 2;
    const whose = store.models.length > 1 ? ` as ${this.caption.textContent} sees it` : "";
    this.box.setAttribute("aria-label", `Image${whose}. ` +
      "Arrow keys move the marker, Enter explains the pixel under it.");
    const found = painted(this.number);
    this.ids = found ? classIds(found.runs, width * height) : null;
    this.classes = found ? found.classes : [];
  }

  draw() {
    const active = this.number === store.active, strength = $("strength").value / 100;
    const isHeat = store.view === "property" && active && store.heat;
    this.photo.style.filter = store.view === "nothing" ? "" : isHeat ? "grayscale(1) brightness(1.08) contrast(.75)"
      : store.view === "property" ? "" : `saturate(${1 - .5 * strength})`;
    this.heat.hidden = !isHeat;
    if (isHeat) this.heat.src = store.heat.image;
    this.heat.style.opacity = strength;
    this.map.hidden = store.view !== "classes" || !this.ids;
    this.map.style.opacity = strength;
    if (!this.map.hidden) this.paint();
    this.mark();
  }

  paint() {
    const { width, height } = store.image, scale = Math.max(1, Math.round(SHORT_SIDE / Math.min(width, height)));
    const wide = width * scale, high = height * scale, thick = Math.max(1, Math.round(Math.min(wide, high) / 400));
    if (this.map.width !== wide || this.map.height !== high) { this.map.width = wide; this.map.height = high; }
    const colors = this.classes.map(one => paints(one.color));
    const pen = this.map.getContext("2d"), pixels = pen.createImageData(wide, high);
    const words = new Uint32Array(pixels.data.buffer), ids = this.ids, isLit = this.litPixels();
    for (let y = 0, at = 0; y < high; y++) {
      const row = (y / scale | 0) * width, below = Math.min(height - 1, (y + thick) / scale | 0) * width;
      for (let x = 0; x < wide; x++, at++) {
        const column = x / scale | 0, id = ids[row + column], color = colors[id];
        const right = ids[row + Math.min(width - 1, (x + thick) / scale | 0)];
        words[at] = isLit && !isLit(id, row + column) ? color.dim
          : right !== id || ids[below + column] !== id ? color.line : color.plain;
      }
    }
    pen.putImageData(pixels, 0, 0);
  }

  litPixels() {
    const { classes } = this;
    if (store.lit === null) return null;
    if (store.lit !== "differ") return id => classes[id].name === store.lit;
    const other = store.frames[1 - this.number];
    return other.ids ? (id, at) => classes[id].name !== other.classes[other.ids[at]].name : null;
  }

  nameAt({ x, y }) { return this.ids ? this.classes[this.ids[y * store.image.width + x]].name : ""; }

  mark() {
    const { width, height } = store.image, spot = this.cursor || (store.place && "x" in store.place ? store.place : null);
    this.cross.hidden = !spot;
    if (spot) {
      this.cross.style.left = `${100 * (spot.x + .5) / width}%`;
      this.cross.style.top = `${100 * (spot.y + .5) / height}%`;
    }
    const outline = this.trail || (store.place && store.place.outline);
    this.lines.replaceChildren();
    if (!outline) return;
    for (const kind of ["halo", "outline"]) {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", this.trail ? "polyline" : "polygon");
      shape.setAttribute("points", outline.map(([x, y]) => `${x},${y}`).join(" "));
      shape.setAttribute("class", kind);
      this.lines.append(shape);
    }
  }

  pixel(event) {
    const box = this.box.getBoundingClientRect(), { width, height } = store.image;
    const within = (value, limit) => Math.max(0, Math.min(limit - 1, Math.floor(value * limit)));
    return { x: within((event.clientX - box.left) / box.width, width),
             y: within((event.clientY - box.top) / box.height, height) };
  }

  listen() {
    let start = null;
    this.box.onpointerdown = event => {
      if (event.button !== 0 || !store.image) return;
      start = { at: [event.clientX, event.clientY], pixel: this.pixel(event),
                drags: event.pointerType === "mouse" || isDrawing() };
      if (start.drags) this.box.setPointerCapture(event.pointerId);
    };
    this.box.onpointermove = event => {
      if (!store.image) return;
      const { x, y } = this.pixel(event);
      if (!start) { if (event.pointerType === "mouse") this.onHover(this, { x, y }); return; }
      const far = Math.hypot(event.clientX - start.at[0], event.clientY - start.at[1]) > DRAG;
      if (!this.trail && !(start.drags && far)) return;
      if (!this.trail) this.trail = [[start.pixel.x, start.pixel.y]];
      const [lastX, lastY] = this.trail.at(-1);
      if (Math.hypot(x - lastX, y - lastY) >= Math.max(1, store.image.width / 200) && this.trail.length < MAX_CORNERS) {
        this.trail.push([x, y]);
      }
      this.mark();
    };
    this.box.onpointerup = event => {
      const trail = this.trail, pressed = start;
      start = this.trail = null;
      if (!pressed) return;
      this.cursor = this.corner = null;
      this.onPlace(this, trail ? { outline: trail } : this.pixel(event));
    };
    this.box.onpointercancel = () => { start = this.trail = null; this.mark(); };
    this.box.onmouseleave = () => this.onHover(this, null);
    this.box.onkeydown = event => this.key(event);
  }

  key(event) {
    const { width, height } = store.image;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.min(width, height) / 32));
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const spot = this.cursor || (store.place && "x" in store.place ? store.place : { x: width >> 1, y: height >> 1 });
    if (move) {
      this.cursor = { x: Math.max(0, Math.min(width - 1, spot.x + move[0])),
                      y: Math.max(0, Math.min(height - 1, spot.y + move[1])) };
      if (this.corner) this.trail = rectangle(this.corner, this.cursor);
      this.mark();
      this.onHover(this, this.cursor);
    } else if (event.key === "Escape") {
      this.corner = this.trail = null;
      this.mark();
    } else if (event.key === "Enter" || event.key === " ") {
      if (!isDrawing()) this.onPlace(this, spot);
      else if (!this.corner) this.corner = spot;
      else {
        const outline = rectangle(this.corner, spot);
        this.corner = this.trail = this.cursor = null;
        this.onPlace(this, { outline });
      }
    } else return;
    event.preventDefault();
  }
}

const isDrawing = () => $("region").getAttribute("aria-pressed") === "true";
const rectangle = (a, b) => [[a.x, a.y], [b.x, a.y], [b.x, b.y], [a.x, b.y]];
