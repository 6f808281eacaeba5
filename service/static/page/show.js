// Small pieces that both halves of the page show the same way.

export const byId = (id) => document.getElementById(id);

/** An element with a class and, if any, text. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** A share of 0…1 in percent; what is not quite all or nothing never reads as if it were. */
export function percent(share) {
  if (share >= 0.9995 && share < 1) return ">99.9%";
  if (share < 0.0005) return share > 0 ? "<0.1%" : "0%";
  return `${(share * 100).toFixed(1)}%`;
}

/** Show a problem as the service words it, or nothing; with a button for `again` where that may end otherwise. The focus stays. */
export function showProblem(place, problem, again) {
  place.hidden = !problem;
  place.replaceChildren();
  if (!problem) return;
  place.append(problem.message);
  if (again && problem.mayPass) place.append(" ", retry(place, problem, again));
  place.scrollIntoView({ block: "nearest" }); // on a small screen it may be below what can be seen
}

function retry(place, problem, again) {
  const button = element("button", "", problem.status === 401 ? "Enter a key" : "Try again");
  button.addEventListener("click", () => {
    place.closest("[role=tabpanel]").focus({ preventScroll: true }); // the button goes, and the focus with it
    showProblem(place, null);
    again();
  });
  return button;
}

/** Where the time of an answer went: on the service by stage, and until it was here. */
export function showTimes(place, { server, total, roundTrip }) {
  const parts = Object.entries(server).map(([stage, ms]) => `${stage}\u00a0${milliseconds(ms)}`);
  place.replaceChildren(
    pair("Server", `${milliseconds(total)} ms`),
    pair("Round trip", `${milliseconds(roundTrip)} ms`),
    element("span", "stages", parts.join(" · ")),
  );
}

/** Offer the models of a task; `chosen()` is the query that asks for one. `onChange` is called when another is chosen. */
export function offerModels(models, { select, about, onChange }) {
  const describe = () => {
    const { manifest, provider, precision } = models[select.selectedIndex];
    const { metric, value, dataset, split, trained_on: seen } = manifest.provenance;
    const pictures = seen.includes(split) ? `${split}, seen in training` : split;
    const name = models.length < 2 ? `${manifest.name}, ` : ""; // else the list beside it says so
    about.textContent =
      `${name}version ${manifest.version}: ${(value * 100).toFixed(2)}% ${metric} on ${dataset} (${pictures}); ` +
      `${precision} on ${provider.toUpperCase()}`;
  };
  select.replaceChildren(...models.map(({ manifest }) => new Option(manifest.name, manifest.name)));
  select.selectedIndex = Math.max(models.findIndex((model) => model.default), 0);
  select.hidden = select.labels[0].hidden = models.length < 2;
  select.addEventListener("change", () => (describe(), onChange()));
  describe();
  return { current: () => models[select.selectedIndex].manifest };
}

/** Give the browser a file to save. */
export function download(blob, name) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function milliseconds(ms) {
  return ms === undefined ? "?" : ms < 10 ? ms.toFixed(1) : Math.round(ms).toString();
}

function pair(name, value) {
  const made = element("span", "pair", `${name} `);
  made.append(element("b", "", value));
  return made;
}
