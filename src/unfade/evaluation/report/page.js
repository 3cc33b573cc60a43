"use strict";
// Tables sort by their headings, and by links such as #sort=summary:2:desc (table, column from 0, direction).
(() => {
  const valueOf = (row, column) => row.cells[column].dataset.value ?? "";

  function sort(table, column, direction) {
    const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    const isText = heads[column].classList.contains("text");
    const sign = direction === "desc" ? -1 : 1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      // What is missing stands last in both directions.
      if (a === "" || b === "") return (a === "") - (b === "");
      if (isText) return sign * a.localeCompare(b, "en", { numeric: true });
      const [x, y] = [a, b].map((text) => Number(text.replace("inf", "Infinity")));
      return x === y ? 0 : sign * (x < y ? -1 : 1);
    });
    body.append(...rows.map(([, row]) => row));
    for (const [index, head] of [...heads].entries()) {
      head.setAttribute("aria-sort", index !== column ? "none" : direction === "desc" ? "descending" : "ascending");
    }
  }

  function fromLink() {
    const target = document.getElementById(location.hash.slice(1));
    for (let inside = target?.closest("details"); inside; inside = inside.parentElement.closest("details")) {
      inside.open = true;
    }
    const [, name, column, direction] = /^#sort=([\w-]+):(\d+):(asc|desc)$/.exec(location.hash) ?? [];
    const table = name && document.getElementById(name);
    if (!(table instanceof HTMLTableElement)) return;
    const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    if (Number(column) >= heads.length) return;
    const details = table.closest("details");
    if (details) details.open = true;
    sort(table, Number(column), direction);
    table.scrollIntoView();
  }

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const table = head.closest("table");
      const now = head.getAttribute("aria-sort");
      const other = { ascending: "desc", descending: "asc" };
      const direction = other[now] ?? head.dataset.first;
      sort(table, head.cellIndex, direction);
      history.replaceState(null, "", `#sort=${table.id}:${head.cellIndex}:${direction}`);
    });
  }

  addEventListener("hashchange", fromLink);
  fromLink();
  // For tests: how many of the page's pictures could not be shown.
  addEventListener("load", () => {
    const broken = [...document.images].filter((image) => !(image.complete && image.naturalWidth > 0));
    document.documentElement.dataset.ready = String(broken.length);
  });
})();
