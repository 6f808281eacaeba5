// Digits: the pad on one side; the bars, and what the network saw, on the other.

import { ask, newestWins, pause } from "./service.js";
import { byId, element, offerModels, percent, showProblem, showTimes } from "./show.js";

const SHOWN = 10; // classes: all of them where there are no more
const PAUSE_MS = 30; // between two questions: faster than the eye, and half the work
const DOT = 0.1; // of the pad: what is no larger, while the pen is down, is the beginning of something
const REST_MS = 300; // after which a pen that is down has come to rest
const OLD_AFTER_MS = 200; // an answer to an older drawing is marked: not sooner, where the next one comes at once
const SPOKEN_AFTER_MS = 700; // of rest: a screen reader is not told of every step of a stroke

/** Set the panel up for `models` and the `pad`, on which there may be something already; returns a function that takes a file. */
export function startDigits(models, pad) {
  const chosen = offerModels(models, { select: byId("digit-model"), about: byId("digit-about"), onChange: () => changed(true) });
  const bars = new Bars(byId("digit-bars"));
  const problem = byId("digit-problem");
  const answer = ["digit-label", "digit-bars", "digit-times"].map(byId);
  let seen = null;
  let spoken;
  let question = new AbortController(); // the one under way, or the last
  let version = 0; // another number for every other drawing, or model, that there may be a question about
  let asked = null; // the versions that the question is about,
  let answered = null; // that the answer shown is about,
  let refused = null; // that was not answered,
  let pictured = null; // and that the input shown is about
  let rested = true; // the pen is up, or has not moved for a while
  let resting;
  let oldSince = null; // when there was something newer than the answer shown
  let waiting = null; // what is said of a question that is not answered at once
  let ageing;

  // First the answer; what the network saw once the pen rests. One question at a time: what came meanwhile is asked next.
  const look = newestWins(async () => {
    if (pad.empty || (pad.drawing && pad.extent < DOT)) return;
    if (version === refused || (version === answered && (version === pictured || !rested))) return;
    const { subject } = pad;
    const manifest = chosen.current();
    const query = new URLSearchParams({ model: manifest.name, top_k: 256 });
    const takenAt = performance.now();
    const about = (asked = version);
    question = new AbortController();
    const { signal } = question;
    const current = () => about === version && !signal.aborted;
    if (answered === null) byId("digit-sure").textContent = "Looking…";
    try {
      const body = await pad.picture();
      if (about !== answered) {
        const onWait = (seconds) => subject === pad.subject && wait(`Too busy: asking again in ${seconds} s.`);
        const classified = await ask(`classify?${query}`, { body, signal, onWait });
        if (subject !== pad.subject) return;
        answered = about;
        show(classified, manifest, about === version ? null : takenAt);
      }
      if (rested && current()) {
        // Without it the answer is one all the same.
        const shown = await ask(`classify?${query}&output=input`, { body, signal, attempts: 1 }).catch(() => null);
        if (!current()) return;
        pictured = about;
        showSeen(shown && URL.createObjectURL(shown.answer));
      }
    } catch (error) {
      // There is another question to come of what was drawn meanwhile; but not to who gave no key.
      if (error.status === 401 ? !pad.empty : current() && !pad.drawing) refuse(error);
    }
    await pause(PAUSE_MS);
  });

  bars.show([], chosen.current());
  pad.onChange = changed;
  if (!pad.empty) changed(true);

  /** `another` than before is there to look at; else the pen was lifted. */
  function changed(another) {
    clearTimeout(resting);
    if (another) version++;
    if (pad.empty) return reset();
    if (another) outdate();
    if (pad.drawing) {
      rested = false;
      if (asked === answered) question.abort(); // what the network saw then
      resting = setTimeout(rest, REST_MS);
      look();
    } else {
      rest();
    }
  }

  /** Ask about what is there now. Before, an answer to what was there is better than none; now nobody waits for it. */
  function rest() {
    rested = true;
    if (asked !== version) question.abort();
    look();
  }

  function show({ answer, ...times }, manifest, newerSince) {
    const [result] = answer.results;
    showProblem(problem, null);
    waiting = null;
    byId("digit-label").textContent = result.label;
    byId("digit-label").classList.remove("none");
    byId("digit-sure").textContent = result.probability < 0.5 ? `not sure: ${percent(result.probability)}` : percent(result.probability);
    bars.show(result.top, manifest);
    showTimes(byId("digit-times"), times);
    say("");
    // Where answers come slowly, a mark that went and came with each of them would flicker.
    const keepsUp = 2 * times.roundTrip + PAUSE_MS < OLD_AFTER_MS;
    oldSince = newerSince === null || keepsUp ? newerSince : (oldSince ?? newerSince);
    markAge();
    if (newerSince === null) spoken = setTimeout(() => say(`${result.label}, ${percent(result.probability)}`), SPOKEN_AFTER_MS);
    if (pad.photo) {
      pad.box = result.box;
      pad.draw();
    }
  }

  /** The answer shown, if any, is about what was there before. */
  function outdate() {
    byId("digit-seen").ariaBusy = String(seen !== null);
    if (answered === null) return;
    say("");
    oldSince ??= performance.now();
    markAge();
  }

  function markAge() {
    clearTimeout(ageing);
    const left = oldSince === null ? 0 : oldSince + OLD_AFTER_MS - performance.now();
    if (left > 0) return void (ageing = setTimeout(markAge, left));
    for (const part of answer) part.ariaBusy = String(oldSince !== null);
    if (oldSince !== null) byId("digit-sure").textContent = waiting ?? "Looking…";
  }

  function wait(words) {
    waiting = words;
    byId("digit-sure").textContent = words;
    say(words);
  }

  function refuse(error) {
    blank("No answer");
    byId("digit-times").replaceChildren();
    refused = version;
    showProblem(problem, error, () => ((refused = null), look()));
  }

  function reset() {
    question.abort();
    blank("No drawing yet");
    byId("digit-times").replaceChildren();
    showProblem(problem, null);
  }

  function blank(sure) {
    say("");
    answered = pictured = oldSince = waiting = null;
    markAge();
    byId("digit-label").textContent = "–";
    byId("digit-label").classList.add("none");
    byId("digit-sure").textContent = sure;
    bars.show([], chosen.current());
    showSeen(null);
  }

  function showSeen(url) {
    if (seen) URL.revokeObjectURL(seen);
    seen = url;
    byId("digit-seen").ariaBusy = "false";
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
