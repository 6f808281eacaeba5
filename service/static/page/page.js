// Starts the page: tabs, files from wherever they come, the key.

import { startDigits } from "./digits.js";
import { ask, hasKey, onKeyWanted } from "./service.js";
import { byId, showProblem } from "./show.js";
import { startStreets } from "./streets.js";

const TABS = ["digits", "streets"];
const COMMANDS = byId("curl").textContent;
const takers = {}; // by panel: what takes a file there
let early = null; // the file that came before there was anything to take it

startTabs();
startKey();
startFiles();
startLinks();
showCommands();
start();

async function start() {
  const again = () => {
    for (const id of ["digit-problem", "street-problem"]) showProblem(byId(id), null); // it is the same one
    return start();
  };
  try {
    const { models } = (await ask("models")).answer;
    const ofTask = (task) => models.filter(({ manifest }) => manifest.task === task);
    for (const [tab, task, startPanel] of [["digits", "classification", startDigits], ["streets", "segmentation", startStreets]]) {
      if (ofTask(task).length) takers[tab] = startPanel(ofTask(task));
      else byId(`tab-${tab}`).hidden = true;
    }
    const left = TABS.filter((tab) => takers[tab]);
    if (left.length && !takers[current()]) select(left[0]);
    showCommands();
    if (early) takers[current()]?.(early);
    early = null;
    document.body.dataset.state = "ready";
  } catch (error) {
    for (const id of ["digit-problem", "street-problem"]) showProblem(byId(id), error, again);
    document.body.dataset.state = "failed";
  }
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
    if (takers[current()]) takers[current()](file);
    else early = file;
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

/** A link sends no key: where one is wanted, what is behind it is asked for here. */
function startLinks() {
  for (const link of document.querySelectorAll('a[href="models"]')) {
    link.addEventListener("click", async (event) => {
      if (!hasKey() || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      try {
        const { answer } = await ask("models");
        const text = new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" });
        location.assign(URL.createObjectURL(text));
      } catch (error) {
        for (const id of ["digit-problem", "street-problem"]) showProblem(byId(id), error);
      }
    });
  }
}

/** The commands, for the address that this page came from, and with a key where one is wanted. */
function showCommands() {
  const here = new URL(".", location.href).href.replace(/\/$/, "");
  const withKey = hasKey() ? 'curl -H "Authorization: Bearer $KEY" ' : "curl ";
  byId("curl").textContent = COMMANDS.replaceAll("http://127.0.0.1:8000", here).replaceAll("curl ", withKey);
}
