// On a narrow screen the image is out of view while words are edited or reasons are read: a small copy stays.
import { $, isNarrow, reveal } from "./dom.js";
import { on, store } from "./store.js";

let stageIsSeen = true;

function draw() {
  const mini = $("mini"), frame = store.frames[store.active];
  mini.hidden = stageIsSeen || !isNarrow() || !store.image || !frame;
  if (mini.hidden) return;
  const { width, height } = store.image, canvas = mini.firstElementChild, wide = 360;
  canvas.width = wide;
  canvas.height = Math.round(wide * height / width);
  const pen = canvas.getContext("2d");
  pen.filter = frame.photo.style.filter || "none";
  pen.drawImage(frame.photo, 0, 0, canvas.width, canvas.height);
  pen.filter = "none";
  pen.globalAlpha = $("strength").value / 100;
  for (const layer of [frame.heat, frame.map]) {
    if (!layer.hidden && (layer.naturalWidth ?? layer.width)) pen.drawImage(layer, 0, 0, canvas.width, canvas.height);
  }
}

export function connectMini() {
  new IntersectionObserver(entries => { stageIsSeen = entries.at(-1).isIntersecting; draw(); }).observe($("stage"));
  $("mini").onclick = () => reveal($("stage"), "start");
  for (const event of ["image", "results", "view", "answer"]) on(event, () => setTimeout(draw));
  on("edited", draw);
  for (const frame of store.frames) frame.photo.onload = frame.heat.onload = draw;
}
