"use strict";
// Draws the charts for the width at hand, and makes the table of languages sortable and searchable.
(() => {
  const PANEL = 230; // pixels: the smallest width of a panel with its axis
  const config = {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: {
      labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelColor: "currentColor", titleColor: "currentColor",
      domainColor: "currentColor", tickColor: "currentColor", gridColor: "currentColor", gridOpacity: 0.15, labelLimit: 150,
    },
    header: { labelFontSize: 12, labelFontWeight: "bold", labelColor: "currentColor", titleColor: "currentColor", labelLimit: 260 },
    legend: { orient: "bottom", title: null, labelFontSize: 12, symbolSize: 90, labelColor: "currentColor", titleColor: "currentColor", labelLimit: 260 },
    title: { color: "currentColor" },
    rule: { color: "currentColor" },
  };

  // Colours of series become variables of the page's style, which has them for light and dark screens and for paper.
  const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000"];
  const withPageColours = (text) => PALETTE.reduce((before, colour, i) => before.replaceAll(`"${colour}"`, `"var(--c${i})"`), text);

  function fitted(text, width) {
    const spec = JSON.parse(withPageColours(text));
    delete spec.title; // the caption has it
    const long = width < 600 ? 90 : 200;
    spec.config = { ...config, axis: { ...config.axis, labelLimit: long }, legend: { ...config.legend, columns: Math.max(1, Math.floor(width / 170)) } };
    const names = Math.max(0, ...(spec.data?.values ?? []).map((row) => labelWidth(spec.spec ?? spec, row)));
    const axis = Math.min(names, long) + 45;
    if (spec.facet && spec.spec) {
      const values = new Set(spec.data.values.map((row) => row[spec.facet.field]));
      let columns = Math.max(1, Math.min(values.size, Math.floor(width / Math.max(PANEL, axis + 110))));
      // Panels that come in rows, such as those of a model, are not cut elsewhere.
      if (values.size % spec.columns === 0) while (columns % spec.columns && spec.columns % columns) columns--;
      const shared = spec.resolve?.scale?.y !== "independent"; // then only the first column has the axis
      const room = shared ? width - axis - 24 * columns : width - (axis + 24) * columns;
      spec.columns = columns;
      if (values.size % columns) spec.resolve = { ...spec.resolve, axis: { x: "independent" } }; // none below empty places
      spec.spec.width = Math.max(90, Math.min(420, Math.floor(room / columns)));
    } else if (spec.height?.step) { // rows of a given height, which cannot be fitted
      spec.width = Math.min(width, 900) - axis - 24;
    } else if (!spec.hconcat && !spec.vconcat && !spec.concat) {
      spec.width = Math.min(width, 900);
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    return spec;
  }

  // Pixels of the label that a row has on a vertical axis of categories.
  function labelWidth(view, row) {
    const layers = view.layer ?? [view];
    const y = layers.at(-1).encoding?.y;
    return y?.type === "nominal" ? 6.2 * String(row[y.field] ?? "").length : 0;
  }

  async function draw(figure) {
    const element = figure.querySelector(".chart");
    const width = Math.floor(element.clientWidth);
    if (!width || element.dataset.width === String(width)) return;
    element.dataset.width = String(width);
    const text = figure.querySelector(".spec").textContent;
    const drawing = document.createElement("div");
    const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, logLevel: 1, mode: "vega-lite", tooltip: { disableDefaultStyle: true } };
    const result = await vegaEmbed(drawing, fitted(text, width), options);
    element.view?.finalize();
    element.view = result.view;
    for (const svg of drawing.querySelectorAll("svg")) svg.setAttribute("aria-hidden", "true");
    element.replaceChildren(drawing);
  }

  async function drawAll() {
    for (const figure of document.querySelectorAll("figure")) {
      try {
        await draw(figure);
      } catch (error) {
        figure.querySelector(".chart").textContent = `This chart cannot be drawn: ${error.message}`;
        console.error(error);
      }
      await new Promise((resume) => setTimeout(resume));
    }
    document.documentElement.dataset.drawn = "yes";
  }

  let waiting;
  const redraw = () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  };

  // Numbers of a chart.
  const rowsOf = (figure) => JSON.parse(figure.querySelector(".spec").textContent).data.values;
  const columnsOf = (rows) => [...new Set(rows.flatMap(Object.keys))];
  const MOST_ROWS = 500;

  function showNumbers(figure, details) {
    if (details.querySelector("table")) return;
    const rows = rowsOf(figure), names = columnsOf(rows);
    const region = document.createElement("div");
    region.className = "scroll tall";
    region.tabIndex = 0;
    const table = region.appendChild(document.createElement("table"));
    const head = table.createTHead().insertRow();
    for (const name of names) {
      const cell = head.appendChild(document.createElement("th"));
      cell.scope = "col";
      cell.textContent = name;
    }
    const body = table.createTBody();
    for (const row of rows.slice(0, MOST_ROWS)) {
      const line = body.insertRow();
      for (const name of names) line.insertCell().textContent = shown(row[name]);
    }
    if (rows.length > MOST_ROWS) {
      const note = details.appendChild(document.createElement("p"));
      note.className = "note";
      note.textContent = `The first ${MOST_ROWS} of ${rows.length} rows; the CSV has all of them.`;
    }
    details.append(region);
  }

  const shown = (value) => (value == null ? "–" : typeof value === "number" ? String(Number(value.toPrecision(5))) : value);

  // As in escaping.py: text that a spreadsheet would take for a formula gets an apostrophe.
  function quoted(value) {
    const text = value == null ? "" : typeof value === "number" ? String(value) : String(value).replace(/^([=+\-@\t\r])/, "'$1");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function save(name, rows) {
    const text = rows.map((row) => row.map(quoted).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const figure of document.querySelectorAll("figure")) {
    const details = figure.querySelector("details");
    details.addEventListener("toggle", () => details.open && showNumbers(figure, details));
    figure.querySelector(".download").addEventListener("click", (event) => {
      const rows = rowsOf(figure), names = columnsOf(rows);
      save(event.target.dataset.name, [names, ...rows.map((row) => names.map((name) => row[name]))]);
    });
  }

  // The table of languages.
  const table = document.getElementById("language-table");
  if (table) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const rows = [...body.rows];
    const collator = new Intl.Collator("en", { numeric: true });
    document.querySelector(".controls").hidden = false;
    const number = (text) => (/^[+\-−]?[\d,]*\.?\d+/.test(text) ? Number(text.replaceAll(",", "").replace("−", "-").match(/^[+-]?[\d.]+/)[0]) : null);
    heads.forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(head, index));
    });

    function sort(head, index) {
      const texts = new Map(rows.map((row) => [row, row.cells[index].textContent.trim()]));
      const values = new Map(rows.map((row) => [row, number(texts.get(row))]));
      const numeric = rows.some((row) => values.get(row) !== null);
      const before = head.getAttribute("aria-sort");
      const descending = before === "none" ? numeric : before === "ascending"; // the highest number first
      const sign = descending ? -1 : 1;
      rows.sort((a, b) => {
        if (!numeric) return sign * collator.compare(texts.get(a), texts.get(b));
        const x = values.get(a), y = values.get(b);
        if (x === null || y === null) return (x === null) - (y === null); // missing ones last
        return sign * (x - y);
      });
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      body.append(...rows);
    }

    const search = document.getElementById("language-search"), count = document.getElementById("language-count");
    const about = heads.findIndex((head) => head.classList.contains("group"));
    const searched = rows.map((row) => [...row.cells].slice(0, about < 0 ? undefined : about).map((cell) => cell.textContent).join(" ").toLowerCase());
    const text = new Map(rows.map((row, index) => [row, searched[index]]));
    search.addEventListener("input", () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const row of rows) {
        const matches = words.every((word) => text.get(row).includes(word));
        row.hidden = !matches;
        found += matches;
      }
      count.textContent = words.length ? `${found} of ${rows.length} languages` : `${rows.length} languages`;
    });

    const group = document.getElementById("language-group");
    const choose = () => (group.value ? (table.dataset.group = group.value) : delete table.dataset.group);
    if (group) {
      group.addEventListener("change", choose);
      choose();
    }
    document.getElementById("language-csv").addEventListener("click", () => {
      const plain = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
      save("languages.csv", [heads.map(plain), ...rows.filter((row) => !row.hidden).map((row) => [...row.cells].map(plain))]);
    });
  }

  // On paper, folded tables are open and the search does not hide rows.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.folded:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });

  if (window.vegaEmbed) {
    addEventListener("resize", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    drawAll();
  }
})();
