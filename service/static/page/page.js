// Starts the page: tabs, files from wherever they come, the key.

import { startDigits } from "./digits.js";
import { Pad } from "./pad.js";
import { ask, hasKey, onKeyWanted } from "./service.js";
import { byId, showProblem } from "./show.js";
import { startStreets } from "./streets.js";

const TABS = ["digits", "streets"];
const PROBLEMS = ["digit-problem", "street-problem"];
const COMMANDS = byId("curl").textContent;
const takers = {}; // by panel: what takes a file there
let early = null; // the file that came before there was anything to take it
const pad = new Pad(byId("pad"), { hint: byId("pad-hint"), undo: byId("pad-undo"), clear: byId("pad-clear") });
pad.onChange = (another) => {
  byId("digit-sure").textContent = pad.empty ? "No drawing yet" : "No answer yet";
  if (!another) wake();
};

startTabs();
startKey();
startFiles();
showCommands();
start();

async function start() {
  document.body.dataset.state = "starting";
  for (const id of PROBLEMS) showProblem(byId(id), null); // it is the same one
  try {
    const { models } = (await ask("models")).answer;
    const ofTask = (task) => models.filter(({ manifest }) => manifest.task === task);
    for (const [tab, task, startPanel] of [["digits", "classification", startDigits], ["streets", "segmentation", startStreets]]) {
      if (ofTask(task).length) takers[tab] = startPanel(ofTask(task), pad);
      else byId(`tab-${tab}`).hidden = true;
    }
    const left = TABS.filter((tab) => takers[tab]);
    if (left.length && !takers[current()]) select(left[0]);
    showCommands();
    for (const link of links()) link.hidden = false;
    if (hasKey()) linkModels(models);
    if (early) takers[current()]?.(early);
    early = null;
    document.body.dataset.state = "ready";
  } catch (error) {
    for (const id of PROBLEMS) showProblem(byId(id), error, start);
    for (const link of links()) link.hidden = error.status === 401;
    document.body.dataset.state = "failed";
  }
}

/** Start once more, for what was drawn or given meanwhile: whoever gave no key then may give one now. */
function wake() {
  if (document.body.dataset.state === "failed") start();
}

function current() {
  return TABS.find((tab) => !byId(tab).hidden);
}

function select(tab) {
  for (const each of TABS) {
    const chosen = each === tab;
    byId(each).hidden = !chosen;
    byId(`tab-${each}`).setAttribute("aria-selected", String(chosen));
    byId(`tab-${each}`).tabIndex = chosen ? 0 : -1;
  }
}

function startTabs() {
  const follow = () => select(TABS.find((tab) => `#${tab}` === location.hash) ?? TABS[0]);
  for (const tab of TABS) {
    const button = byId(`tab-${tab}`);
    button.addEventListener("click", () => {
      history.replaceState(null, "", `#${tab}`);
      select(tab);
    });
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const there = TABS.filter((each) => !byId(`tab-${each}`).hidden);
      const next = byId(`tab-${there[(there.indexOf(tab) + step + there.length) % there.length]}`);
      next.focus();
      next.click();
    });
  }
  addEventListener("hashchange", follow);
  follow();
}

/** Pictures that are picked, dropped anywhere, or pasted go to the panel that is open. */
function startFiles() {
  const take = (files) => {
    const file = [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];
    if (!file) return;
    if (takers[current()]) return takers[current()](file);
    early = file;
    wake();
  };
  for (const id of ["digit-file", "street-file"]) {
    byId(id).addEventListener("change", ({ target }) => {
      take(target.files);
      target.value = ""; // so that the same file can be picked again
    });
  }
  addEventListener("paste", ({ clipboardData }) => take(clipboardData.files));
  const mark = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => !event.relatedTarget && mark(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take(event.dataTransfer.files);
  });
}

function startKey() {
  const dialog = byId("key");
  onKeyWanted((why) => {
    byId("key-why").textContent = why;
    byId("key-value").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? byId("key-value").value.trim() : null), { once: true });
    });
  });
}

/** A link sends no key: where one is needed, it leads to what was answered here. */
function linkModels(models) {
  const text = new Blob([JSON.stringify({ models }, null, 2)], { type: "application/json" });
  const url = URL.createObjectURL(text);
  for (const link of links()) link.href = url;
}

function links() {
  return document.querySelectorAll('a[data-to="models"]');
}

/** The commands, for the address that this page came from, and with a key where one is wanted. */
function showCommands() {
  const here = new URL(".", location.href).href.replace(/\/$/, "");
  const withKey = hasKey() ? 'curl -H "Authorization: Bearer $KEY" ' : "curl ";
  byId("curl").textContent = COMMANDS.replaceAll("http://127.0.0.1:8000", here).replaceAll("curl ", withKey);
}
