const $ = id => document.getElementById(id);
const colors = ["#ffd27d", "#a8d8ff", "#b8e6a0", "#f5b5c8", "#d3c2ff", "#9fe3d6"];
const labels = [];

function color(label) {
  if (!labels.includes(label)) labels.push(label);
  return colors[labels.indexOf(label) % colors.length];
}

function show(text, entities) {
  const characters = Array.from(text); // offsets count code points, strings of a browser UTF-16 units
  const result = $("result");
  result.replaceChildren();
  let done = 0;
  for (const entity of entities) {
    result.append(characters.slice(done, entity.start).join(""));
    const mark = document.createElement("mark");
    mark.style.background = color(entity.label);
    mark.title = `${entity.start}-${entity.end}, score ${entity.score.toFixed(3)}`;
    const label = document.createElement("small");
    label.textContent = entity.label;
    mark.append(characters.slice(entity.start, entity.end).join(""), label);
    result.append(mark);
    done = entity.end;
  }
  result.append(characters.slice(done).join(""));
}

async function ask() {
  const text = $("text").value;
  $("status").textContent = "...";
  const began = performance.now();
  try {
    const response = await fetch("entities", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    show(text, answer.entities);
    $("status").textContent = `${answer.entities.length} found in ${Math.round(performance.now() - began)} ms`;
  } catch (error) {
    $("status").textContent = `Error: ${error.message}`;
  }
}

$("form").addEventListener("submit", event => { event.preventDefault(); ask(); });
fetch("about").then(response => response.json()).then(about => { $("model").textContent = about.model; });
const given = new URLSearchParams(location.hash.slice(1)).get("text");
if (given) { $("text").value = given; ask(); }
