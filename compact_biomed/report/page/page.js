
"use strict";
const panel = document.getElementById("panel");
const cells = new Map();
for (const cell of document.querySelectorAll("a.cell")) cells.set(cell.dataset.title, cell);
let shown = null; // the cell whose panel is open
let pinned = false;
let leaving = 0;

// ---- sorting: within each body of a table, so that published rows stay apart; missing cells come last ----

function sortBy(head) {
  const table = head.closest("table");
  const number = head.dataset.kind === "number";
  const first = number ? "descending" : "ascending";
  const second = number ? "ascending" : "descending";
  const order = head.ariaSort === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => {
    const cell = row.cells[head.cellIndex];
    if (!number) return cell.textContent;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (number ? x - y : x.localeCompare(y, "en"));
  };
  for (const body of table.tBodies) body.append(...[...body.rows].sort(compare));
  for (const each of head.parentElement.cells) each.ariaSort = each === head ? order : "none";
}

// ---- the panel: the runs behind a cell, cloned from the list of runs ----

function made(name, text, className) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function runsOf(cell) {
  return cell.dataset.runs.split(" ").filter(Boolean).map((run) => document.getElementById("run-" + run));
}

function runsTable(runs) {
  // What all runs share is in the title; each distinct command is shown below the table.
  const left = new Set(["command", "device"]);
  for (const name of ["model", "task", "fold"]) {
    const values = new Set(runs.map((run) => run.querySelector(`[data-name="${name}"]`).textContent));
    if (values.size === 1) left.add(name);
  }
  const table = made("table");
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  for (const run of runs) {
    const row = body.insertRow();
    for (const cell of run.cells) {
      if (left.has(cell.dataset.name)) continue;
      if (run === runs[0]) head.append(made("th", cell.dataset.name));
      row.append(made("td", cell.textContent));
    }
  }
  return table;
}

function fill(cell) {
  const score = made("p", "", "score");
  for (const part of cell.childNodes) score.append(part.cloneNode(true));
  const notes = made("ul");
  for (const note of cell.dataset.notes.split("\n").filter(Boolean)) notes.append(made("li", note));
  panel.replaceChildren(made("h4", cell.dataset.title), score, notes);
  const runs = runsOf(cell);
  if (runs.length) {
    panel.append(runsTable(runs));
    const commands = runs.map((run) => run.querySelector('[data-name="command"]').textContent);
    for (const command of new Set(commands)) panel.append(made("code", command));
  }
  panel.setAttribute("aria-label", cell.dataset.title);
}

function place(anchor) {
  if (getComputedStyle(panel).position === "fixed") {
    panel.style.left = panel.style.top = "";
    return;
  }
  const at = anchor.getBoundingClientRect();
  const size = panel.getBoundingClientRect();
  const widest = document.documentElement.clientWidth;
  const below = at.bottom + 6 + size.height <= window.innerHeight || at.top < size.height + 6;
  const left = Math.max(8, Math.min(at.left, widest - size.width - 8));
  panel.style.left = `${left + window.scrollX}px`;
  panel.style.top = `${(below ? at.bottom + 6 : at.top - size.height - 6) + window.scrollY}px`;
}

function show(cell, anchor) {
  clearTimeout(leaving);
  if (shown !== cell) {
    if (shown) shown.classList.remove("open");
    shown = cell;
    cell.classList.add("open");
    cell.setAttribute("aria-describedby", "panel");
    fill(cell);
  }
  panel.hidden = false;
  place(anchor);
}

function hide() {
  clearTimeout(leaving);
  if (!shown) return;
  shown.classList.remove("open");
  shown.removeAttribute("aria-describedby");
  shown = null;
  pinned = false;
  panel.hidden = true;
}

// ---- pointer and keyboard ----

function cellOf(target) {
  const link = target.closest("a.cell");
  if (link) return link;
  const point = target.closest("g[data-cell]");
  return point ? cells.get(point.dataset.cell) : null;
}

function mark(target) {
  const holder = target.closest("[data-model]");
  const model = holder ? holder.dataset.model : null;
  for (const each of document.querySelectorAll("[data-model]")) each.classList.toggle("on", each.dataset.model === model);
  for (const each of document.querySelectorAll(".panels")) each.classList.toggle("some", model !== null);
}

function step(cell, key) {
  const place = cell.closest("td");
  const row = place.parentElement;
  const rows = [...row.closest("table").querySelectorAll("tbody tr")];
  const across = { ArrowLeft: -1, ArrowRight: 1 }[key] || 0;
  const down = { ArrowUp: -1, ArrowDown: 1 }[key] || 0;
  let [line, column] = [rows.indexOf(row), place.cellIndex];
  for (;;) {
    line += down;
    column += across;
    const next = rows[line] && rows[line].cells[column];
    if (!next) return;
    const link = next.querySelector("a.cell");
    if (link) return link.focus();
  }
}

document.addEventListener("pointerover", (event) => {
  mark(event.target);
  if (pinned || event.pointerType === "touch") return;
  const cell = cellOf(event.target);
  if (cell) show(cell, event.target.closest("a.cell, g[data-cell]"));
  else if (event.target.closest("#panel")) clearTimeout(leaving);
  else if (shown && document.activeElement !== shown) {
    clearTimeout(leaving);
    leaving = setTimeout(hide, 250); // time to move into the panel
  }
});

document.addEventListener("focusin", (event) => {
  if (!event.target.matches("a.cell")) return;
  pinned = false;
  show(event.target, event.target);
});

document.addEventListener("focusout", (event) => {
  if (!pinned && event.target.matches("a.cell") && !panel.contains(event.relatedTarget)) hide();
});

document.addEventListener("click", (event) => {
  const head = event.target.closest("th[aria-sort] button");
  if (head) {
    hide();
    return sortBy(head.closest("th"));
  }
  const caption = event.target.closest("figcaption button");
  if (caption) {
    const large = caption.closest("figure").classList.toggle("large");
    caption.setAttribute("aria-expanded", String(large));
    return;
  }
  const cell = cellOf(event.target);
  if (cell) {
    event.preventDefault();
    show(cell, event.target.closest("a.cell, g[data-cell]"));
    pinned = true;
    if (event.detail === 0) panel.focus({ preventScroll: true }); // by Enter: the keyboard scrolls the panel
  } else if (!event.target.closest("#panel")) hide();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && shown) {
    const cell = shown;
    const back = panel.contains(document.activeElement);
    hide();
    if (back) {
      cell.focus();
      hide();
    }
  } else if (event.key.startsWith("Arrow") && event.target.matches("a.cell")) {
    event.preventDefault();
    step(event.target, event.key);
  }
});
