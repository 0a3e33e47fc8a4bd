// Downloads of what is shown, made in the browser.

const cell = value => /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);

export function csv(rows, columns) {
  return [columns, ...rows.map(row => columns.map(name => row[name]))].map(row => row.map(cell).join(",") + "\r\n").join("");
}

// `brat` of an entity is what follows its number; the server writes it, as predict does.
export function ann(entities) {
  return entities.map((entity, i) =>
    `T${i + 1}\t${entity.brat}\n#${i + 1}\tAnnotatorNotes T${i + 1}\tscore ${entity.score.toFixed(4)}\n`).join("");
}

export function download(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
