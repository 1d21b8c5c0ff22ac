// "Why?": which properties make up the score of a class at a place, and what separates it from another class.
import { save } from "./api.js";
import { $, button, line, make, number, option, percent, swatch, track } from "./dom.js";
import { colorOf, model, result, store } from "./store.js";

let show = () => {}, explain = () => {};
export function connect(showProperty, explainPlace) { show = showProperty; explain = explainPlace; }

// Without the sigmoid a score has no upper end that would mean "seen".
const seen = score => score == null ? ""
  : (model().similarity === "cosine" ? "score " : "seen ") + score.toFixed(2).replace("-", "−");
const property = (entry, note, value, bars = []) =>
  line(entry.phrase || entry.property, note, value, bars,
       entry.index === undefined ? undefined : () => show(entry.index),
       entry.phrase && entry.phrase !== entry.property ? `${entry.property}. Show where it is seen` : "Show where it is seen");

export function drawWhy() {
  const panel = $("why"), answer = store.answer;
  panel.replaceChildren();
  if (!answer) {
    panel.append(make("p", "Click a pixel of the image, or drag around a region (or move the marker with the arrow keys " +
      "and press Enter): you see which properties make up the score of its class, and what another class lacks.", "soft"));
    return;
  }
  const rival = answer.runner_up, title = make("div", undefined, "row title");
  title.append(swatch(colorOf(answer.class)), make("h2", answer.class), make("span", number(answer.score), "number"));
  panel.append(title, verdict(answer, rival), choices(answer, rival));
  drawShares(panel, answer);
  panel.append(spoken(answer));
  if (rival) drawRival(panel, answer, rival);
  scores(`${answer.class} should have, but hardly seen here`, answer.missing, panel);
  scores(`Seen here, but not a property of ${answer.class}`, answer.unexpected, panel);
  const file = button("Save this explanation (JSON)", "button small", () => save(
    new Blob([JSON.stringify(answer, null, 1)], { type: "application/json" }), "explanation.json"));
  const foot = make("p", undefined, "save");
  foot.append(file);
  panel.append(foot);
}

function verdict(answer, rival) {
  const place = answer.point ? `Pixel ${answer.point[0]}, ${answer.point[1]}.`
    : answer.is_whole_class ? `All ${answer.region_pixels.toLocaleString("en")} pixels that are called ${answer.class}.`
    : `Region of ${answer.region_pixels.toLocaleString("en")} pixels.`;
  const what = answer.class === answer.predicted_class ? "" : ` The model says ${answer.predicted_class}.`;
  const lead = !rival ? "" : ` It ${rival.margin >= 0 ? "leads" : "trails"} ${rival.class} (${number(rival.score)}) by ` +
    `${number(Math.abs(rival.margin))}.`;
  return make("p", place + what + lead);
}

function choices(answer, rival) {
  const names = model().classes.map(one => one.name), row = make("div", undefined, "choices");
  const askable = answer.is_whole_class ? result().shares.map(([id]) => names[id]) : names;
  const why = make("select", undefined, "input"), instead = make("select", undefined, "input");
  why.id = "explained";
  why.setAttribute("aria-label", "Class to explain at this place");
  for (const name of [answer.predicted_class, ...askable.filter(one => one !== answer.predicted_class)]) {
    why.append(option(name, name === answer.predicted_class ? `Why ${name}?` : `Why not ${name}?`, name === answer.class));
  }
  instead.id = "instead";
  instead.setAttribute("aria-label", "Class to compare it with");
  instead.append(option("", "rather than the next best", !store.rival));
  for (const name of names.filter(one => one !== answer.class)) {
    instead.append(option(name, `rather than ${name}`, Boolean(store.rival) && rival && name === rival.class));
  }
  why.onchange = () => explain(why.value, why.value === store.rival ? "" : store.rival).then(() => $("explained").focus());
  instead.onchange = () => explain(answer.class, instead.value).then(() => $("instead").focus());
  row.append(why, instead);
  return row;
}

function spoken(answer) {
  const share = answer.spoken_share, offset = answer.offset;
  const text = share < .9995 ? `Words explain ${percent(Math.max(0, share))} of this score` +
    "; the rest is what the model learned without words." : "Words explain all of this score.";
  return make("p", text + (offset ? ` Its offset as a described class is ${number(offset)}.` : ""), "soft spoken");
}

function drawRival(panel, answer, rival) {
  const few = list => list.filter(one => Math.abs(one.difference) >= .0005).slice(0, 4);
  const about = one => (one.own && !one.theirs ? `${rival.class} does not have it; `
    : one.theirs && !one.own ? `${answer.class} does not have it; `
    : one.own ? "both have it; " : one.score == null ? "" : "neither has it; ") + seen(one.score);
  const differences = (heading, list) => {
    if (!list.length) return;
    panel.append(make("h3", heading), ...list.map(one => property(one, about(one), `+${number(Math.abs(one.difference))}`)));
  };
  differences(`What ${rival.class} lacks against ${answer.class}`, few(rival.deciding.filter(one => one.difference > 0)));
  scores(`${rival.class} should have, but hardly seen here`, rival.unseen, panel);
  differences(`What speaks for ${rival.class}`, few(rival.deciding.filter(one => one.difference < 0)));
}

function scores(heading, list, panel) {
  if (!list || !list.length) return;
  panel.append(make("h3", heading), ...list.slice(0, 4).map(one => property(one, "", seen(one.score))));
}

function drawShares(panel, answer) {
  const rival = answer.runner_up, all = answer.contributions;
  // Of a class that lost, what the winner has is as telling as its own.
  const lost = rival && rival.margin < 0;
  const weight = one => Math.max(Math.abs(one.share), lost ? Math.abs(one.runner_up_share) : 0);
  const worth = .01 * Math.max(Math.abs(answer.score), lost ? Math.abs(rival.score) : 0);
  const visible = all.filter(one => weight(one) >= worth).sort((a, b) => weight(b) - weight(a)).slice(0, 8);
  const rest = all.filter(one => !visible.includes(one));
  const sum = (list, key) => list.reduce((total, one) => total + (one[key] || 0), 0);
  const rows = visible.map(one => ({ ...one, theirs: one.runner_up_share,
    note: (one.expected || one.score == null ? "" : "not its own, ") + seen(one.score) }));
  if (rest.length) {
    rows.push({ property: rest.length === 1 ? "1 other property" : `${rest.length} other properties`, note: "",
                share: sum(rest, "share"), theirs: sum(rest, "runner_up_share") });
  }
  const values = rows.flatMap(row => rival ? [row.share, row.theirs] : [row.share]);
  const low = Math.min(0, ...values), high = Math.max(1e-9, ...values), at = value => (value - low) / (high - low);
  const bar = (value, color) => track([[at(Math.min(0, value)), at(Math.max(0, value)), color]]);
  panel.append(make("h3", `What makes up the score of ${answer.class}`));
  if (rival) {
    const keys = make("div", undefined, "soft");
    for (const [name, color] of [[answer.class, "var(--accent)"], [rival.class, "var(--rival-bar)"]]) {
      const key = make("span", undefined, "key");
      key.append(swatch(color), make("span", name, "name"));
      keys.append(key);
    }
    panel.append(keys);
  }
  for (const row of rows) {
    panel.append(property(row, row.note, number(row.share),
      [bar(row.share, "var(--accent)"), ...(rival ? [bar(row.theirs, "var(--rival-bar)")] : [])]));
  }
  const total = line("Score", "", number(sum(rows, "share")), []);
  total.classList.add("total");
  panel.append(total);
}
