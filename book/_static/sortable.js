// Makes every <table class="sortable"> sort by a column when its header is clicked, and back when it is clicked again.
// Numbers sort as numbers, cells without one come last; names of rows sort as words.
(() => {
  const number = cell => parseFloat(cell.textContent.replace("−", "-").replace(/,(?=\d{3})/g, ""));

  const comparison = (column, direction) => (one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    const [x, y] = [number(a), number(b)];
    if (a.tagName === "TH" || (isNaN(x) && isNaN(y)))
      return direction * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
    return isNaN(x) - isNaN(y) || direction * (x - y);
  };

  const makeSortable = table => {
    const heads = [...table.tHead.rows[0].cells];
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const each of heads) each.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        for (const body of table.tBodies) body.append(...[...body.rows].sort(comparison(head.cellIndex, direction)));
      });
    }
  };

  const start = () => {
    const style = document.createElement("style");
    style.textContent = `
      table.sortable thead button { all: unset; cursor: pointer; font: inherit; outline: revert; }
      table.sortable th[aria-sort=ascending]::after { content: " ↑"; }
      table.sortable th[aria-sort=descending]::after { content: " ↓"; }`;
    document.head.append(style);
    document.querySelectorAll("table.sortable").forEach(makeSortable);
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
