// Streets: a picture with its classes over it, and what they are.

import { Overlay } from "./overlay.js";
import { readPalettePng } from "./png.js";
import { ask } from "./service.js";
import { byId, download, element, offerModels, percent, showProblem, showTimes } from "./show.js";

const EXAMPLE = "static/page/street.jpg";
const STEP = 1 / 48; // of the picture, that a key moves the crosshair

/** Set the panel up for `models`; returns a function that takes a file. */
export function startStreets(models) {
  const canvas = byId("street");
  const overlay = new Overlay(canvas);
  const tip = byId("street-tip");
  const chosen = offerModels(models, { select: byId("street-model"), about: byId("street-about"), onChange: () => file && look() });
  let file = null;
  let mask = null;
  let classes = [];
  let crosshair = null;
  let pinned = null; // the class that was chosen in the list
  let question = null;

  byId("street-example").disabled = false;
  byId("street-example").addEventListener("click", async () => {
    try {
      const response = await fetch(EXAMPLE);
      if (!response.ok) throw new Error(response.statusText);
      const blob = await response.blob();
      take(new File([blob], "street.jpg", { type: blob.type }));
    } catch {
      showProblem(byId("street-problem"), new Error("The example cannot be loaded."));
    }
  });
  byId("street-opacity").addEventListener("input", ({ target }) => {
    byId("street-opacity-value").textContent = `${target.value}%`;
    overlay.opacity = target.value / 100;
    overlay.draw();
  });
  byId("street-mask").addEventListener("click", () => download(mask, `${stem()}-mask.png`));
  byId("street-overlay").addEventListener("click", save);
  for (const event of ["pointermove", "pointerdown"]) canvas.addEventListener(event, point);
  canvas.addEventListener("pointerleave", () => !crosshair && leave());
  canvas.addEventListener("blur", leave);
  canvas.addEventListener("keydown", key);

  function take(given) {
    file = given;
    return look();
  }

  async function look() {
    question?.abort();
    question = new AbortController();
    const { signal } = question;
    const manifest = chosen.current();
    const picture = await createImageBitmap(file).catch(() => null);
    if (signal.aborted) return void picture?.close();
    forget();
    invite(false);
    overlay.set(picture, null, []);
    busy("Looking…");
    say("Looking…");
    try {
      const onWait = (seconds) => {
        busy(`Too busy: asking again in ${seconds} s`);
        say(`Too busy: asking again in ${seconds} s`);
      };
      const query = new URLSearchParams({ model: manifest.name });
      const { answer, ...times } = await ask(`segment?${query}`, { body: file, signal, onWait });
      const [result] = answer.results;
      const bytes = Uint8Array.from(atob(result.mask), (each) => each.charCodeAt(0));
      const pixels = await readPalettePng(bytes);
      if (signal.aborted) return;
      show(picture, pixels, result, manifest, times);
      mask = new Blob([bytes], { type: "image/png" });
    } catch (error) {
      if (signal.aborted) return;
      say("");
      if (!picture) invite(true);
      showProblem(byId("street-problem"), error, look);
    }
    busy(null);
  }

  /** Show the picture, or where there is none, that one is wanted. */
  function invite(wanted) {
    const empty = byId("street-empty");
    const focused = (wanted ? canvas : empty).contains(document.activeElement); // and is gone
    empty.hidden = !wanted;
    canvas.hidden = wanted;
    if (focused) (wanted ? byId("street-example") : canvas).focus({ preventScroll: true });
  }

  function show(picture, pixels, result, manifest, times) {
    classes = manifest.classes;
    overlay.set(picture, pixels, classes);
    byId("street-mask").disabled = byId("street-overlay").disabled = false;
    byId("street-none").hidden = true;
    const most = result.classes[0].share;
    byId("street-legend").replaceChildren(...result.classes.map((class_) => entry(class_, class_.share / most)));
    showTimes(byId("street-times"), times);
    const largest = result.classes.slice(0, 2).map(({ name, share }) => `${name} ${percent(share)}`);
    say(`${result.classes.length} classes, most of it ${largest.join(" and ")}`);
  }

  /** A class in the list: pointed at or focused it is shown, pressed it stays so. */
  function entry({ id, name, color, share }, length) {
    const button = element("button");
    button.dataset.id = id;
    button.setAttribute("aria-pressed", "false");
    const swatch = element("span", "swatch");
    const bar = element("span", "fill");
    swatch.style.background = bar.style.background = color;
    bar.style.setProperty("--share", length);
    const track = element("span", "track");
    track.append(bar);
    button.append(swatch, element("span", "name", name), track, element("span", "value", percent(share)));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => overlay.showClass(id));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => overlay.showClass(pinned));
    button.addEventListener("click", () => pin(pinned === id ? null : id));
    const item = element("li");
    item.append(button);
    return item;
  }

  function pin(id) {
    pinned = id;
    overlay.showClass(id);
    for (const button of byId("street-legend").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.id) === id));
    }
  }

  function point(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    if (crosshair) overlay.mark((crosshair = null));
    name((event.clientX - left) / width, (event.clientY - top) / height);
  }

  function key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (event.key === "Escape") return leave();
    if (!move || !classes.length || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const { x, y } = crosshair ?? { x: 0.5, y: 0.5 };
    const step = event.shiftKey ? 4 * STEP : STEP;
    const inside = (value) => Math.min(Math.max(value, 0), 0.999);
    crosshair = { x: inside(x + move[0] * step), y: inside(y + move[1] * step) };
    overlay.mark(crosshair);
    say(name(crosshair.x, crosshair.y) ?? "");
  }

  /** Show the name of what is at a place, and give it. */
  function name(x, y) {
    const class_ = classes[overlay.classAt(x, y)];
    tip.hidden = !class_;
    if (!class_) return null;
    const swatch = element("span", "swatch");
    swatch.style.background = class_.color;
    tip.replaceChildren(swatch, class_.name);
    tip.classList.toggle("left", x > 0.7);
    tip.classList.toggle("above", y > 0.8);
    tip.style.left = `${canvas.offsetLeft + x * canvas.clientWidth}px`;
    tip.style.top = `${canvas.offsetTop + y * canvas.clientHeight}px`;
    for (const button of byId("street-legend").querySelectorAll("button")) {
      button.classList.toggle("here", Number(button.dataset.id) === class_.id);
    }
    return class_.name;
  }

  function leave() {
    tip.hidden = true;
    crosshair = null;
    overlay.mark(null);
    for (const button of byId("street-legend").querySelectorAll(".here")) button.classList.remove("here");
  }

  function forget() {
    mask = pinned = null;
    classes = [];
    leave();
    byId("street-mask").disabled = byId("street-overlay").disabled = true;
    byId("street-none").hidden = false;
    byId("street-legend").replaceChildren();
    byId("street-times").replaceChildren();
    showProblem(byId("street-problem"), null);
    say("");
  }

  async function save() {
    try {
      download(await overlay.saved(), `${stem()}-overlay.png`);
    } catch (error) {
      showProblem(byId("street-problem"), error);
    }
  }

  function busy(words) {
    byId("street-busy").hidden = words === null;
    byId("street-busy").firstElementChild.textContent = words ?? "";
  }

  function say(words) {
    byId("street-spoken").textContent = words;
  }

  const stem = () => file.name.replace(/\.\w+$/, "") || "street";

  return take;
}
