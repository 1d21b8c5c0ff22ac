// A class more: described in sentences or by ticking properties, with what it would take before it is added.
import { ask, steadily } from "./api.js";
import { button, make, option, percent } from "./dom.js";
import { Picker } from "./picker.js";
import { model, store } from "./store.js";

const BUDGETS = [.001, .002, .005, .01, .02, .05, .1, .2];  // shares of the pixels of known classes
const SURENESS = { known: "known", sure: "sure", unsure: "unsure", "does not fit": "fits nothing" };

function labelled(text, input) {
  const label = make("label", undefined, "field");
  label.append(make("span", text), input);
  return label;
}

export function addClassForm({ apply, preview }) {
  const form = make("form"), name = make("input", undefined, "input"), start = make("select", undefined, "input");
  const suggest = button("", "button small", fillSuggestion), sentences = make("textarea", undefined, "input");
  const byWords = button("Write sentences", "", () => setWay(true));
  const byTicks = button("Tick properties", "", () => setWay(false));
  const ways = make("div", undefined, "segments field");
  const budget = make("input"), budgetText = make("span", "", "number");
  const outcome = make("div", undefined, "outcome"), problem = make("p", "", "problem"), hint = make("p", "", "soft");
  const picker = new Picker("Its properties", changed), submit = make("button", "Add the class", "button primary");
  let writes = false, made = new Set();  // sentences that become properties of their own
  Object.assign(name, { id: "new-name", maxLength: 80, autocomplete: "off", required: true, oninput: changed });
  Object.assign(sentences, { id: "sentences", rows: 5, oninput: changed });
  Object.assign(budget, { id: "budget", type: "range", min: 0, max: BUDGETS.length - 1, value: 3, oninput: changed });
  outcome.id = "outcome";
  outcome.setAttribute("aria-live", "polite");
  problem.setAttribute("role", "alert");
  ways.append(byTicks, byWords);
  start.onchange = () => {
    const one = model().classes.find(other => other.name === start.value);
    picker.set(model().properties, one ? one.properties.map(k => model().properties[k]) : []);
    changed();
  };
  const starting = labelled("Start with the properties of", start);
  const writing = labelled("What can be seen of it, one sentence per line", sentences);
  const share = make("label", undefined, "field budget");
  share.append(make("span", "How much it may take from known classes"), budget, budgetText);
  form.append(suggest, labelled("Name", name), ways, starting, picker.node, writing, hint, share, outcome, problem,
              submit);
  form.onsubmit = event => { event.preventDefault(); add(); };

  function setWay(isWriting) {
    writes = isWriting;
    fill();
    changed();
  }

  const lines = () => sentences.value.split("\n").map(text => text.trim()).filter(Boolean);
  const described = () => writes ? { sentences: lines().filter(text => !made.has(text)) }
    : { properties: picker.chosen };
  const newPhrases = () => writes ? lines().filter(text => made.has(text)) : [];
  const isDescribed = () => writes ? lines().length > 0 : picker.chosen.length > 0;
  const share_ = () => BUDGETS[Number(budget.value)];
  function edits() {
    const title = name.value.trim() || "new class", list = [{ edit: "add_class", name: title, ...described() }];
    for (const phrase of newPhrases()) list.push({ edit: "add_property", phrase, classes: [title] });
    const isOther = model().measured && share_() !== model().budget;
    return isOther ? [{ edit: "set_claim_budget", budget: share_() }, ...list] : list;
  }

  const look = steadily(async () => {
    problem.textContent = "";
    if (!isDescribed()) { outcome.replaceChildren(); await preview(null); return; }
    try {
      const title = name.value.trim() || "the new class";
      const answer = await ask("preview", () => preview(edits(), `Preview: ${title} is not added yet.`));
      if (answer) drawOutcome(answer);
    } catch (error) {
      outcome.replaceChildren();
      await preview(null);
      problem.textContent = error.message || "The server does not answer.";
    }
  });
  let timer = 0;
  function changed() {
    budgetText.textContent = `${percent(share_())} of their pixels`;
    clearTimeout(timer);
    timer = setTimeout(look, writes ? 350 : 30);
  }

  function drawOutcome(answer) {
    outcome.replaceChildren(...answer.placements.map(placement), ...newPhrases().map(newProperty));
    const title = name.value.trim() || "new class", found = answer.shown && answer.shown.shares
      .find(([id]) => answer.shown.classes[id].name === title);
    if (answer.shown) {
      outcome.append(make("p", found ? `It would cover ${percent(found[1])} of this image.`
                                     : "It is not found in this image."));
    }
    const claim = answer.claims.find(one => one.class === title);
    if (claim) {
      const taken = claim.takes_from.slice(0, 4).map(one => `${one.class} (${percent(one.share)})`);
      outcome.append(make("p", taken.length ? `It takes pixels from ${taken.join(", ")}.`
                                            : "It takes no pixel of a known class.", "soft"));
    }
    outcome.append(...answer.notes.filter(text => !text.includes("was left out")).map(text => make("p", text, "soft")));
    if (answer.shown && !found) outcome.append(...nextSteps(claim));
  }

  function placement(one) {  // where a sentence went, and how sure that is
    const kind = !one.used ? "unfit" : one.sureness === "unsure" ? "unsure" : "sure";
    const node = make("div", undefined, `placement ${kind}`), words = make("div");
    words.append(make("span", one.sentence, "name"),
                 make("span", one.used ? ` → ${one.property}` : ` is nearest to ${one.property}`, "soft"));
    node.append(words, make("span", `${SURENESS[one.sureness]} ${one.cosine.toFixed(2)}`, "number"));
    if (!one.used) node.append(makes("Make a property of it", one.sentence, true));
    return node;
  }

  function newProperty(text) {
    const node = make("div", undefined, "placement sure"), words = make("div");
    words.append(make("span", text, "name"), make("span", " becomes a property that only this class has", "soft"));
    node.append(words, makes("Not a property", text, false));
    return node;
  }

  const makes = (label, text, on) => button(label, "button small", () => {
    if (on) made.add(text); else made.delete(text);
    look();
  });

  function nextSteps(claim) {
    const steps = ["What to do next:"];
    if (claim && !claim.can_be_told_apart) steps.push(`describe what sets it apart from ${claim.nearest};`);
    if (share_() < BUDGETS.at(-1) && model().measured) {
      steps.push("let it take more from known classes (the slider above);");
    }
    steps.push("look at the maps of its properties in this image: one that is dark where it stands is not seen there;");
    steps.push("or try an image that shows it.");
    return [make("p", steps.join(" "), "next")];
  }

  async function add() {
    if (!isDescribed()) {
      problem.textContent = writes ? "Describe the class in sentences." : "Tick its properties.";
      return;
    }
    submit.disabled = true;
    clearTimeout(timer);
    await look.settle();  // a preview of what was just added would be refused
    try { if (await apply(edits(), problem)) clear(); } finally { submit.disabled = false; }
  }

  function clear() {
    name.value = sentences.value = "";
    made = new Set();
    picker.set(model().properties);
    outcome.replaceChildren();
    fill();
  }

  function fillSuggestion() {
    setWay(false);
    name.value = model().suggestion.name;
    picker.set(model().properties, model().suggestion.properties.map(k => model().properties[k]));
    changed();
  }

  function fill() {
    const { encoder, classes, properties, suggestion, measured } = model(), chosen = start.value;
    if (!encoder.available) writes = false;
    ways.hidden = !encoder.available;
    byTicks.setAttribute("aria-pressed", !writes);
    byWords.setAttribute("aria-pressed", writes);
    starting.hidden = picker.node.hidden = writes;
    writing.hidden = !writes;
    share.hidden = !measured;
    const which = encoder.name || "the text encoder of the property space";
    hint.textContent = writes ? "Each sentence goes to the property that is nearest to it." : encoder.available ? ""
      : `To describe classes in sentences, start the demo with --encoder (${which}).`;
    start.replaceChildren(option("", "no class"), ...classes.map(one => option(one.name, one.name)));
    start.value = classes.some(one => one.name === chosen) ? chosen : "";
    suggest.hidden = !suggestion;
    if (suggestion) suggest.textContent = `Fill in “${suggestion.name}”, which the model never saw`;
    picker.set(properties, picker.chosen);
    const near = BUDGETS.findIndex(value => value >= (model().budget ?? .01));
    if (document.activeElement !== budget) budget.value = near < 0 ? BUDGETS.length - 1 : near;
    budgetText.textContent = `${percent(share_())} of their pixels`;
  }
  return { node: form, fill };
}
