// Images on their way in: chosen, dropped, pasted or drawn; and the strip of those that the server keeps.
import { ask, busy, call, complain, guarded, upload } from "./api.js";
import { $, button, make } from "./dom.js";
import { emit, store } from "./store.js";

let sampleNumber = 0, look = () => {};
export function connectGallery(showImage) {
  look = showImage;
  $("choose").onclick = () => $("file").click();
  $("file").onchange = () => { takeFiles([...$("file").files]); $("file").value = ""; };
  $("sample").onclick = drawSample;
  let depth = 0;
  const carriesFile = event => [...(event.dataTransfer || {}).types || []].includes("Files");
  const over = shown => { $("drop").hidden = !shown; if (!shown) depth = 0; };
  addEventListener("dragenter", event => { if (carriesFile(event)) { depth++; over(true); } });
  addEventListener("dragleave", event => { if (carriesFile(event) && --depth <= 0) over(false); });
  addEventListener("dragover", event => event.preventDefault());
  addEventListener("drop", event => {
    event.preventDefault();
    over(false);
    takeFiles([...event.dataTransfer.files]);
  });
  addEventListener("paste", event => {
    takeFiles([...event.clipboardData.files].filter(one => one.type.startsWith("image/")));
  });
}

function problemOf(file) {
  if (file.type && !file.type.startsWith("image/")) {
    return `${file.name || "This"} is not an image. Use JPEG, PNG, WebP, BMP or GIF.`;
  }
  const megabytes = bytes => `${(bytes / 2 ** 20).toFixed(0)} MB`;
  if (file.size > store.maxBytes) {
    return `${file.name || "The image"} is too large: ${megabytes(file.size)}, the limit is ` +
      `${megabytes(store.maxBytes)}. Reduce it first.`;
  }
  return "";
}

function takeFiles(files) {
  if (!files.length) return undefined;
  return guarded(() => busy(async () => {
    $("banner").hidden = true;
    const problems = files.map(problemOf).filter(Boolean);
    for (const file of files.filter(one => !problemOf(one))) {
      try { await take(() => upload(file)); } catch (error) {
        if (!error.status || error.status >= 500) throw error;
        problems.push(files.length > 1 ? `${file.name}: ${error.message}` : error.message);
      }
    }
    if (problems.length) complain(problems.join(" "));
  }));
}

export function drawSample() {
  const number = sampleNumber++;
  return guarded(() => busy(() => take(() => call("sample", { number }))));
}

async function take(question) {  // an image that comes with the first model's answer
  const answer = await ask("image", question);
  if (!answer) return;
  const { result, images, ...image } = answer;
  store.images = [...store.images.filter(one => images.includes(one.key)), image];
  await look(image, result);
}

export function drawGallery() {
  $("gallery").hidden = store.images.length < 2;
  $("gallery").replaceChildren(...store.images.map(one => {
    const node = make("div", undefined, "thumb"), label = one.name || "image";
    const open = button(undefined, "", () => guarded(() => busy(async () => {
      const image = await ask("image", () => call("image", { image: one.key }));
      if (image) await look(image);
    })), label);
    const photo = make("img");
    photo.src = one.thumbnail;
    photo.alt = label;
    open.append(photo);
    open.setAttribute("aria-pressed", Boolean(store.image) && store.image.key === one.key);
    const remove = button("×", "remove", () => guarded(() => forget(one.key)), "Remove this image");
    remove.setAttribute("aria-label", `Remove ${label}`);
    node.append(open, remove);
    return node;
  }));
}

async function forget(key) {
  store.images = (await call("forget", { image: key })).images;
  const isShown = store.image && store.image.key === key && store.images.length;
  if (isShown) await look(await call("image", { image: store.images.at(-1).key })); else emit("image");
}
