
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 3) continue;
  const heads = table.querySelectorAll(".heads th");
  const key = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
  const isNumber = (text) => text !== "" && !Number.isNaN(Number(text));
  const compare = (a, b) =>
    isNumber(a) && isNumber(b) ? a - b : isNumber(b) - isNumber(a) || a.localeCompare(b);
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.title = "Sort by this column";
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.ariaSort === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = descending ? "descending" : "ascending";
      const rows = [...body.rows].sort((a, b) => compare(key(a, at), key(b, at)));
      body.append(...(descending ? rows.reverse() : rows));
    });
  });
}
