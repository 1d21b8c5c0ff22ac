// What the page knows, and who is told when it changes.
export const store = {
  models: [],        // per model: classes, properties, words
  active: 0,         // the model that answers
  images: [],        // the gallery: what each image is called, its size and thumbnail
  image: null,       // the one in view, with its photo
  results: [],       // per model: its label map of that image
  override: null,    // shown in place of the active model's map: a preview, or what would be if
  mode: "whole",     // or "slide": windows over the image in all its pixels
  place: null,       // what is explained: {x, y} or {outline: [[x, y], ...]}
  answer: null,      // why it has its class
  rival: "",         // the class that it is compared with, where the visitor chose one
  heat: null,        // the property map in view
  view: "classes",   // over the image: classes, property or nothing
  frames: [],        // the image as each model sees it
  lit: null,         // name of the only class that is lit, or "differ" where two models disagree
  heatScale: [], maxBytes: Infinity,
};

const listeners = {};
export function on(event, listener) { (listeners[event] ||= []).push(listener); }
export function emit(event) { for (const listener of listeners[event] || []) listener(); }

export const model = () => store.models[store.active];
export const result = () => store.results[store.active];
export const colorOf = name => (model().classes.find(one => one.name === name) || {}).color || "gray";

// What is painted for a model: its classes with their colors, its label map as runs, shares of the classes.
export function painted(number) {
  const found = store.results[number];
  if (number === store.active && store.override) return store.override;
  return found ? { classes: store.models[number].classes, runs: found.runs, shares: found.shares } : null;
}
