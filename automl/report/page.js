"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const way = head.classList.contains("down") ? 1 : -1;
    heads.forEach(other => other.classList.remove("up", "down"));
    head.classList.add(way < 0 ? "down" : "up");
    const value = row => { const cell = row.cells[column]; return "v" in cell.dataset ? cell.dataset.v : cell.textContent; };
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const n = Number(x) - Number(y);
      return way * (Number.isNaN(n) ? x.localeCompare(y) : n);
    });
    body.append(...rows);
  }));
}
for (const figure of document.querySelectorAll("figure")) {
  const turn = () => figure.classList.toggle("large");
  figure.tabIndex = 0;
  figure.addEventListener("click", turn);
  figure.addEventListener("keydown", event => { if (event.key === "Enter") turn(); });
}
const lit = number => {
  for (const mark of document.querySelectorAll("[data-t].hot")) mark.classList.remove("hot");
  for (const drawing of document.querySelectorAll("#search svg")) {
    const own = number === null ? [] : drawing.querySelectorAll(`[data-t="${number}"]`);
    drawing.classList.toggle("lit", own.length > 0);
    own.forEach(mark => mark.classList.add("hot"));
  }
  if (number !== null) document.querySelector(`tr[data-t="${number}"]`)?.classList.add("hot");
};
document.querySelector("#search").addEventListener("mouseover", event => {
  const mark = event.target.closest("[data-t]");
  lit(mark ? mark.dataset.t : null);
});
