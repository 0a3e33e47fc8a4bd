// Predictions as elements. Texts and labels enter the page as text nodes only, so markup in them stays text.

export const LONGEST_LIST = 500; // rows; downloads have all

export function element(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

// A light color per label, far from those before it: 137.5 degrees further on the color wheel.
export const color = index => `hsl(${(45 + index * 137.508) % 360} 75% 80%)`;

export const score = value => value.toFixed(3);

// The text with a mark at each span; spans are in order and do not overlap. Offsets count code points, as in Python,
// while a browser's strings count UTF-16 units.
export function marked(text, spans) {
  const characters = Array.from(text);
  const parts = [];
  let done = 0;
  for (const span of spans) {
    parts.push(characters.slice(done, span.start).join(""));
    const mark = element("mark", { title: span.title, tabIndex: -1 }, characters.slice(span.start, span.end).join(""));
    if (span.color) mark.style.background = span.color;
    if (span.label) mark.append(element("small", {}, span.label));
    span.mark = mark;
    parts.push(mark);
    done = span.end;
  }
  parts.push(characters.slice(done).join(""));
  return parts;
}

// A table of at most LONGEST_LIST rows.
// columns: [{ head, cell: row => node or string, isNumber }]
export function table(columns, rows, rowClass = () => "") {
  const head = element("tr", {}, ...columns.map(column =>
    element("th", { scope: "col", className: column.isNumber ? "number" : "" }, column.head)));
  const body = rows.slice(0, LONGEST_LIST).map(row => element("tr", { className: rowClass(row) }, ...columns.map(column =>
    element("td", { className: column.isNumber ? "number" : "" }, column.cell(row)))));
  return [element("thead", {}, head), element("tbody", {}, ...body)];
}

export function scoreCell(row) {
  const bar = element("meter", { min: 0, max: 1, value: row.score });
  bar.setAttribute("aria-hidden", "true");
  return element("span", {}, bar, ` ${score(row.score)}`);
}
