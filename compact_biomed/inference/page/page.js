// Ask the server on this machine, and show its answer: entities, classes or answers.

import { ann, csv, download } from "./save.js";
import { LONGEST_LIST, color, element, marked, score, scoreCell, table } from "./show.js";

const $ = id => document.getElementById(id);
const TITLES = { entities: "Entities", classify: "Classes", answers: "Answers" };
const COLUMNS = { entities: ["start", "end", "label", "score", "text"], classify: ["label", "score"],
  answers: ["start", "end", "score", "text"] };
const TYPES = { json: "application/json", csv: "text/csv", ann: "text/plain", txt: "text/plain" };

let about = { method: "entities", labels: [], examples: [] };
let asked = null; // what was asked, with the predictions
let chosen = 0; // the answer that is marked in the text
let hidden = new Set(); // types that are not shown
let pending = null; // aborts the request that is under way

// ---- asking

function request() {
  const text = $("text").value;
  if (!text.trim()) throw new Problem("Enter a text, or choose an example.", $("text"));
  const asked = { text };
  if (about.method === "answers") {
    if (!$("question").value.trim()) throw new Problem("Enter a question about the text.", $("question"));
    asked.question = $("question").value;
  }
  if (about.method === "classify" && about.pairs !== false && $("pair").value.trim()) asked.pair = $("pair").value;
  if (about.pairs && !asked.pair) throw new Problem("Enter the second text of the pair.", $("pair"));
  const bytes = new TextEncoder().encode(JSON.stringify(asked)).length;
  if (bytes > about.longest) {
    const mb = n => (n / 1e6).toFixed(1);
    throw new Problem(`This text has ${mb(bytes)} MB; this page takes ${mb(about.longest)} MB. ` +
      "For longer texts: compact-biomed predict", $("text"));
  }
  return asked;
}

class Problem extends Error {
  constructor(message, field) { super(message); this.field = field; }
}

async function ask() {
  pending?.abort();
  const mine = pending = new AbortController();
  fail("");
  try {
    const sent = request();
    $("status").textContent = "predicting …";
    const began = performance.now();
    const answer = await reply(about.method, { signal: mine.signal, method: "POST",
      headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) });
    asked = { ...sent, predictions: answer.predictions, ms: Math.round(performance.now() - began) };
    chosen = 0;
    show();
  } catch (error) {
    if (error.name === "AbortError") return;
    $("status").textContent = "";
    $("output").hidden = true;
    fail(error.message);
    error.field?.focus();
  } finally {
    if (pending === mine) pending = null;
  }
}

async function reply(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is compact-biomed demo still running?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

// ---- showing

const isNumber = () => about.problem === "regression"; // one number, which is no probability
function threshold(label) {
  if (isNumber()) return -Infinity;
  return $("dev").checked ? about.thresholds.values[label] ?? about.thresholds.default : Number($("threshold").value);
}
const colorOf = label => color(Math.max(0, about.labels.indexOf(label)));
const above = () => asked.predictions.filter(each => each.score >= threshold(each.label));
const shown = () => above().filter(each => !hidden.has(each.label));

function show() {
  $("output").hidden = false;
  $("controls").hidden = isNumber();
  $("threshold").disabled = $("dev").checked;
  $("threshold-value").textContent = $("dev").checked ? "" : Number($("threshold").value).toFixed(2);
  ({ entities: showEntities, classify: showClasses, answers: showAnswers })[about.method]();
}

function list(columns, rows, rowClass) {
  $("list").replaceChildren(...table(columns, rows, rowClass));
  $("more").hidden = rows.length <= LONGEST_LIST;
  $("more").textContent = `… and ${(rows.length - LONGEST_LIST).toLocaleString("en")} more, which downloads contain`;
}

function counted(n) {
  const all = asked.predictions.length;
  const found = all === 0 ? "nothing found" : n === all ? `${all} found` : `${n} of ${all} shown`;
  $("status").textContent = `${found}, ${asked.ms} ms`;
  $("list").hidden = all === 0;
}

const place = { head: "characters", isNumber: true, cell: each => `${each.start}–${each.end}` };

function showEntities() {
  showTypes();
  const spans = shown().map(each => ({ ...each, color: colorOf(each.label),
    title: `${each.label}, score ${score(each.score)}, characters ${each.start}–${each.end}` }));
  $("marked").replaceChildren(...marked(asked.text, spans));
  const find = span => element("button", { type: "button", title: "show it in the text",
    onclick: () => { span.mark.focus(); span.mark.scrollIntoView({ block: "nearest" }); } }, span.text);
  list([{ head: "entity", cell: find }, { head: "type", cell: span => span.label },
    { head: "score", cell: scoreCell }, place], spans);
  counted(spans.length);
}

function showTypes() {
  const counts = new Map(about.labels.map(label => [label, 0]));
  for (const each of above()) counts.set(each.label, (counts.get(each.label) ?? 0) + 1);
  const had = document.activeElement?.dataset?.label; // the box that was just clicked keeps the focus
  const boxes = [...counts].map(([label, count]) => {
    const box = element("input", { type: "checkbox", checked: !hidden.has(label), onchange: () => {
      if (box.checked) hidden.delete(label); else hidden.add(label);
      show();
    } });
    box.dataset.label = label;
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colorOf(label);
    return element("label", {}, box, swatch, `${label} (${count})`);
  });
  $("types").replaceChildren($("types").firstElementChild, ...boxes);
  $("types").hidden = false;
  if (had !== undefined) boxes.map(each => each.firstElementChild).find(each => each.dataset.label === had)?.focus();
}

function showClasses() {
  $("marked").replaceChildren();
  const cell = isNumber() ? each => score(each.score) : scoreCell;
  const isBelow = each => each.score < threshold(each.label) ? "below" : "";
  list([{ head: "label", cell: each => each.label }, { head: "score", cell }], asked.predictions, isBelow);
  if (isNumber()) $("status").textContent = `${asked.ms} ms`; else counted(above().length);
}

function showAnswers() {
  const rows = above();
  const best = rows[Math.min(chosen, rows.length - 1)];
  const spans = best ? [{ ...best, title: `score ${score(best.score)}, characters ${best.start}–${best.end}` }] : [];
  $("marked").replaceChildren(...marked(asked.text, spans));
  const choose = each => element("button", { type: "button", title: "show it in the text", onclick: () => {
    chosen = rows.indexOf(each);
    show();
    $("list").querySelectorAll("button")[chosen].focus();
    $("marked").querySelector("mark").scrollIntoView({ block: "nearest" });
  } }, each.text);
  list([{ head: "answer", cell: choose }, { head: "score", cell: scoreCell }, place], rows);
  counted(rows.length);
}

// ---- saving

function save(format) {
  const { predictions, ms, ...question } = asked;
  const columns = COLUMNS[about.method];
  const rows = shown();
  const clean = rows.map(row => Object.fromEntries(columns.map(name => [name, row[name]])));
  const content = {
    json: () => JSON.stringify({ model: about.model, ...question, [about.method]: clean }, null, 2) + "\n",
    csv: () => csv(rows, columns),
    ann: () => ann(rows),
    txt: () => asked.text,
  }[format]();
  download(`predictions.${format}`, content, TYPES[format]);
}

// ---- the page

$("form").addEventListener("submit", event => { event.preventDefault(); ask(); });
$("form").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
});
for (const name of ["threshold", "dev"]) $(name).addEventListener("input", () => { if (asked) show(); });
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => save(button.dataset.format));
}
$("example").addEventListener("change", () => {
  const example = about.examples[Number($("example").value)];
  if ($("example").value === "" || !example) return;
  for (const name of ["text", "pair", "question"]) $(name).value = example[name] ?? "";
  ask();
});

try {
  about = await reply("about");
  $("title").textContent = TITLES[about.method];
  $("model").textContent = about.model;
  $("question-field").hidden = about.method !== "answers";
  $("text-label").textContent = about.method === "answers" ? "Text with the answer" : "Text";
  $("dev-field").hidden = !about.thresholds;
  $("pair-field").hidden = about.method !== "classify" || about.pairs === false;
  for (const name of ["ann", "txt"]) document.querySelector(`[data-format=${name}]`).hidden = about.method !== "entities";
  about.examples.forEach((example, i) => $("example").append(element("option", { value: i }, example.name)));
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.get("text")) {
    for (const name of ["text", "pair", "question"]) $(name).value = given.get(name) ?? "";
    ask();
  }
} catch (error) {
  fail(error.message);
}
