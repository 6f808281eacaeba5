// Digits: the pad on one side; the bars, and what the network saw, on the other.

import { Pad } from "./pad.js";
import { ask, newestWins, pause } from "./service.js";
import { byId, element, offerModels, percent, showProblem, showTimes } from "./show.js";

const SHOWN = 10; // classes: all of them where there are no more
const REST_MS = 30; // between two questions: faster than the eye, and half the work
const SPOKEN_AFTER_MS = 700; // of rest: a screen reader is not told of every step of a stroke

/** Set the panel up for `models`; returns a function that takes a file. */
export function startDigits(models) {
  const pad = new Pad(byId("pad"), changed);
  const chosen = offerModels(models, { select: byId("digit-model"), about: byId("digit-about"), onChange: () => look() });
  const bars = new Bars(byId("digit-bars"));
  const problem = byId("digit-problem");
  let seen = null;
  let spoken;
  let question = new AbortController(); // of the present subject: with another, nobody waits for its answers
  let asked = 0; // the subject that was asked about last

  const look = newestWins(async () => {
    if (pad.empty) return;
    const subject = pad.subject;
    const manifest = chosen.current();
    const query = new URLSearchParams({ model: manifest.name, top_k: 256 });
    const { signal } = question;
    if (subject !== asked) byId("digit-sure").textContent = "Looking…";
    asked = subject;
    try {
      const body = await pad.picture();
      const onWait = (seconds) => subject === pad.subject && wait(`Too busy: asking again in ${seconds} s.`);
      const answer = () => ask(`classify?${query}`, { body, signal, onWait });
      // Without it the answer is one all the same, and the next drawing does not wait for it.
      const input = () => ask(`classify?${query}&output=input`, { body, signal, attempts: 1 }).catch(() => null);
      const early = pad.photo ? null : input(); // a photograph may take long to send: that goes one after the other
      const classified = await answer();
      if (subject === pad.subject) show(classified, manifest);
      const shown = await (early ?? input());
      if (subject === pad.subject) showSeen(shown && URL.createObjectURL(shown.answer));
    } catch (error) {
      if (subject === pad.subject) refuse(error);
    }
    await pause(REST_MS);
  });

  byId("pad-clear").addEventListener("click", () => (pad.clear(), byId("pad").focus()));
  byId("pad-undo").addEventListener("click", () => pad.undo());
  bars.show([], chosen.current());
  byId("pad-hint").hidden = false; // now there is something to draw on

  function changed() {
    if (pad.subject !== asked) {
      question.abort();
      question = new AbortController();
    }
    byId("pad-hint").hidden = !pad.empty;
    byId("pad-clear").disabled = byId("pad-undo").disabled = pad.empty;
    if (pad.empty) reset();
    else look();
  }

  function show({ answer, ...times }, manifest) {
    const [result] = answer.results;
    showProblem(problem, null);
    byId("digit-label").textContent = result.label;
    byId("digit-label").classList.remove("none");
    byId("digit-sure").textContent = result.probability < 0.5 ? `not sure: ${percent(result.probability)}` : percent(result.probability);
    bars.show(result.top, manifest);
    showTimes(byId("digit-times"), times);
    if (pad.photo) showSeen(null); // that of another subject
    say("");
    spoken = setTimeout(() => say(`${result.label}, ${percent(result.probability)}`), SPOKEN_AFTER_MS);
    if (pad.photo) {
      pad.box = result.box;
      pad.draw();
    }
  }

  function wait(words) {
    byId("digit-sure").textContent = words;
    say(words);
  }

  function refuse(error) {
    blank("–", "No answer");
    showProblem(problem, error, look);
  }

  function reset() {
    blank("–", "No drawing yet");
    showProblem(problem, null);
    byId("digit-times").replaceChildren();
  }

  function blank(label, sure) {
    say("");
    byId("digit-label").textContent = label;
    byId("digit-label").classList.add("none");
    byId("digit-sure").textContent = sure;
    bars.show([], chosen.current());
    showSeen(null);
  }

  function showSeen(url) {
    if (seen) URL.revokeObjectURL(seen);
    seen = url;
    const image = byId("digit-input");
    image.hidden = !url;
    if (url) {
      image.src = url;
      image.alt = "The picture as the network saw it";
    }
  }

  function say(words) {
    clearTimeout(spoken);
    byId("digit-spoken").textContent = words;
  }

  return (file) => pad.show(file);
}

/** A bar for each class, in the classes' order; of very many, the most probable. */
class Bars {
  #list;
  #rows = [];

  constructor(list) {
    this.#list = list;
  }

  show(top, { classes }) {
    const names = classes.length <= SHOWN ? classes.map(({ name }) => name) : top.slice(0, SHOWN).map(({ label }) => label);
    const probabilities = new Map(top.map(({ label, probability }) => [label, probability]));
    while (this.#rows.length < names.length) this.#add();
    while (this.#rows.length > names.length) this.#rows.pop().item.remove();
    names.forEach((name, i) => {
      const row = this.#rows[i];
      const probability = probabilities.get(name) ?? 0;
      row.name.textContent = name;
      row.value.textContent = top.length ? percent(probability) : "";
      row.item.classList.toggle("some", probability >= 0.001);
      row.item.classList.toggle("best", top.length > 0 && name === top[0].label);
      row.fill.style.setProperty("--share", probability);
    });
  }

  #add() {
    const item = element("li");
    const row = { item, name: element("span", "name"), fill: element("span", "fill"), value: element("span", "value") };
    const track = element("span", "track");
    track.append(row.fill);
    item.append(row.name, track, row.value);
    this.#list.append(item);
    this.#rows.push(row);
  }
}
