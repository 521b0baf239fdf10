"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const data = (id) => { const element = byId(id); return element && JSON.parse(element.textContent); };
  // A long name may break behind the signs that join its words.
  const breakable = (name) => name.split(/(?<=[=_,./])/).flatMap((part) => [part, make("wbr")]);
  const wanted = (text) => { const words = text.trim().toLowerCase(); return (name) => name.toLowerCase().includes(words); };

  // Tables: a click on a heading sorts by the raw numbers, or by the text where a column has none; places without a number stay last.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.textContent.trim();
  };
  const isEmpty = (one) => one === "" || one === "—" || Number.isNaN(one);
  const compare = (a, b, sign) => {
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    // "diverged 1 of 3" among numbers is no number either.
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    if (typeof a === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(value(a, column), value(b, column), descending ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  }

  // Cells: one field filters the rows of all tables about cells, the columns of the pictures, and the curves.
  const filterListeners = [];
  const cellFilter = byId("cell-filter");
  const cellTables = [...document.querySelectorAll("table.sortable")].filter((table) => table.tHead.rows[0].cells[0].textContent.trim() === "Cell");
  filterListeners.push((fits) => {
    let shown = 0, all = 0;
    cellTables.forEach((table, number) => [...table.tBodies[0].rows].forEach((row) => {
      row.hidden = !fits(row.cells[0].textContent);
      if (number === 0) { all += 1; shown += !row.hidden; }
    }));
    byId("cell-count").textContent = shown === all ? "" : `${shown} of ${all} cells`;
  });
  const filterCells = () => { const fits = wanted(cellFilter.value); filterListeners.forEach((listen) => listen(fits)); };
  cellFilter.addEventListener("input", filterCells);

  // Pictures: a row is filled when it comes near the window, from the sheet of its prompt.
  const gallery = data("gallery-data");
  if (gallery) {
    const { side, columns } = gallery;
    const shown = Math.max(side, 96);
    const region = byId("pictures");
    const lines = Math.ceil(gallery.cells.length / columns);
    const sheet = (element, prompt, cell, size) => {
      element.style.width = element.style.height = `${size}px`;
      element.style.backgroundImage = `url(data:image/webp;base64,${gallery.images[prompt]})`;
      element.style.backgroundSize = `${size * Math.min(columns, gallery.cells.length)}px ${size * lines}px`;
      element.style.backgroundPosition = `${-(cell % columns) * size}px ${-Math.floor(cell / columns) * size}px`;
    };
    let visible = gallery.cells.map((_, cell) => cell);
    let order = gallery.prompts.map((_, prompt) => prompt);
    const rows = gallery.prompts.map((prompt, number) => {
      const row = make("div", { className: "prompt" });
      row.dataset.prompt = number;
      row.style.height = `${shown + 6}px`;
      return row;
    });
    const fill = (row) => {
      if (row.childElementCount) return;
      const number = Number(row.dataset.prompt);
      const words = make("div", { className: "words", textContent: gallery.prompts[number].caption, title: gallery.prompts[number].id });
      row.append(words, ...visible.map((cell) => {
        const tile = make("button", { type: "button", className: "tile" });
        tile.setAttribute("aria-label", `${gallery.cells[cell].name}: ${gallery.prompts[number].caption}`);
        tile.dataset.cell = cell;
        sheet(tile, number, cell, shown);
        return tile;
      }));
    };
    const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (entry.isIntersecting) fill(entry.target); else entry.target.replaceChildren();
    }), { root: region, rootMargin: "600px" });
    const heads = make("div", { className: "heads" });
    region.append(heads, ...rows);
    rows.forEach((row) => watcher.observe(row));
    const layout = () => {
      const width = `${shown}px`;
      heads.replaceChildren(make("div", { className: "words" }), ...visible.map((cell) => {
        const head = make("div", { className: "head" }, ...breakable(gallery.cells[cell].name));
        head.style.width = width;
        return head;
      }));
      rows.forEach((row) => { row.replaceChildren(); watcher.unobserve(row); watcher.observe(row); });
    };
    filterListeners.push((fits) => {
      visible = gallery.cells.map((_, cell) => cell).filter((cell) => fits(gallery.cells[cell].name));
      layout();
    });
    const arrange = () => {
      const chosen = byId("order").value;
      const values = chosen === "" ? null : gallery.orders[chosen].values;
      order = gallery.prompts.map((_, prompt) => prompt);
      if (values) order.sort((a, b) => compare(values[a] ?? NaN, values[b] ?? NaN, -1));
      const fits = wanted(byId("caption-filter").value);
      const kept = order.filter((prompt) => fits(gallery.prompts[prompt].caption));
      rows.forEach((row, prompt) => { row.hidden = !kept.includes(prompt); });
      region.append(...order.map((prompt) => rows[prompt]));
      order = kept;
      byId("prompt-count").textContent = kept.length === rows.length ? "" : `${kept.length} of ${rows.length} prompts`;
      region.scrollTop = 0;
    };
    byId("order").addEventListener("change", arrange);
    byId("caption-filter").addEventListener("input", arrange);
    layout();

    const dialog = byId("zoom");
    let place = null;
    const zoom = (prompt, cell) => {
      place = [prompt, cell];
      const size = Math.min(Math.max(256, side), window.innerWidth - 60);
      byId("zoom-title").textContent = gallery.cells[cell].name;
      byId("zoom-caption").textContent = gallery.prompts[prompt].caption;
      sheet(byId("zoom-picture"), prompt, cell, size);
      byId("zoom-picture").setAttribute("aria-label", gallery.prompts[prompt].caption);
      byId("zoom-scores").replaceChildren(...gallery.scorers.flatMap((scorer, number) => {
        const score = gallery.scores[number][prompt][cell];
        return [make("dt", { textContent: scorer }), make("dd", { textContent: score === null ? "—" : String(score) })];
      }));
      if (!dialog.open) dialog.showModal();
    };
    region.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) zoom(Number(tile.parentElement.dataset.prompt), Number(tile.dataset.cell));
    });
    dialog.addEventListener("keydown", (event) => {
      const [along, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [0, 0];
      if (!along && !down) return;
      event.preventDefault();
      const cell = visible[visible.indexOf(place[1]) + along] ?? place[1];
      const prompt = order[order.indexOf(place[0]) + down] ?? place[0];
      zoom(prompt, cell);
    });
    byId("zoom-close").addEventListener("click", () => dialog.close());
  }

  // Curves: one line per training, one colour per cell.
  const curves = data("curves-data");
  if (curves) {
    const smoothed = (points) => !byId("smooth").checked ? points : points.map(([x], row) => {
      const near = points.slice(Math.max(0, row - 4), row + 5);
      return [x, near.reduce((sum, [, y]) => sum + y, 0) / near.length];
    });
    const dashes = ["", "6 3", "2 2", "8 3 2 3"];
    const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f"];
    const names = [...new Set(curves.cells.map((cell) => cell.cell))];
    const choices = [...new Set(Object.values(curves.curves).flatMap((logs) => Object.entries(logs).flatMap(
      ([log, logged]) => Object.keys(logged).filter((name) => name !== "step").map((name) => `${log}: ${name}`))))];
    const select = byId("curve");
    select.append(...choices.map((name) => make("option", { textContent: name })));
    let fits = () => true;
    const draw = () => {
      const [log, name] = select.value.split(": ");
      const width = 900, height = 360, left = 70, bottom = 40, right = 15, top = 15;
      const lines = curves.cells.filter((cell) => fits(cell.cell)).map((cell) => {
        const logged = curves.curves[cell.training][log] ?? {};
        const points = (logged.step ?? []).map((step, row) => [step, (logged[name] ?? [])[row]]);
        return { cell, points: smoothed(points.filter(([, y]) => y !== null && y !== undefined)) };
      }).filter((line) => line.points.length);
      const all = lines.flatMap((line) => line.points);
      const holder = byId("plot");
      if (!all.length) { holder.replaceChildren(make("p", { textContent: "No cell that is shown has this curve." })); return; }
      const extent = (values) => values.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [Infinity, -Infinity]);
      const [x0, x1] = extent(all.map(([x]) => x)), [y0, y1] = extent(all.map(([, y]) => y));
      const x = (one) => left + (one - x0) / (x1 - x0 || 1) * (width - left - right);
      const y = (one) => height - bottom - (one - y0) / (y1 - y0 || 1) * (height - top - bottom);
      const space = "http://www.w3.org/2000/svg";
      const shape = (tag, attributes, text = "") => {
        const element = document.createElementNS(space, tag);
        Object.entries(attributes).forEach(([key, one]) => element.setAttribute(key, one));
        element.textContent = text;
        return element;
      };
      const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${select.value} by step` });
      for (let tick = 0; tick <= 4; tick += 1) {
        const yValue = y0 + (y1 - y0) * tick / 4;
        svg.append(shape("line", { class: "axis", x1: left, x2: width - right, y1: y(yValue), y2: y(yValue) }));
        svg.append(shape("text", { x: left - 6, y: y(yValue) + 4, "text-anchor": "end" }, String(Number((Math.abs(yValue) < 1e-6 * (y1 - y0) ? 0 : yValue).toPrecision(3)))));
      }
      // Whole steps only, each where it is: of few steps, rounded quarters name one twice.
      for (const step of new Set([0, 1, 2, 3, 4].map((tick) => Math.round(x0 + (x1 - x0) * tick / 4)))) {
        svg.append(shape("text", { class: "step", x: x(step), y: height - bottom + 18, "text-anchor": "middle" }, String(step)));
      }
      svg.append(shape("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "step"));
      for (const line of lines) {
        const path = line.points.map(([px, py], row) => `${row ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
        const number = names.indexOf(line.cell.cell), stroke = colours[number % colours.length];
        const dash = dashes[Math.floor(number / colours.length) % dashes.length];
        const one = shape("path", { d: path, fill: "none", stroke, "stroke-width": 1.5, "stroke-dasharray": dash });
        one.append(shape("title", {}, `${line.cell.cell} seed ${line.cell.seed} (${line.cell.state})`));
        svg.append(one);
      }
      const legend = make("ul", { className: "legend" }, ...names.filter((cell) => lines.some((line) => line.cell.cell === cell)).map((cell) => {
        const number = names.indexOf(cell);
        const swatch = shape("svg", { class: "swatch", viewBox: "0 0 28 6", width: 28, height: 6 });
        swatch.append(shape("line", { x1: 0, x2: 28, y1: 3, y2: 3, stroke: colours[number % colours.length], "stroke-width": 3, "stroke-dasharray": dashes[Math.floor(number / colours.length) % dashes.length] }));
        return make("li", {}, swatch, cell);
      }));
      holder.replaceChildren(svg, legend);
    };
    [select, byId("smooth")].forEach((control) => control.addEventListener("change", draw));
    filterListeners.push((test) => { fits = test; draw(); });
    draw();
  }
})();
