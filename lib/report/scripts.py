"""The few scripts of a page. None of them holds data, so that a page can name each by its hash."""

from __future__ import annotations

# Adds the button that saves a table as CSV: the whole of it, and unrounded where a cell has
# `data-value`. A table that is wider than the page can be scrolled with the arrow keys.
TABLES = r"""
(() => {
  const field = text => /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  const plain = text => text.trim().replace(/\s+/g, " ").replace(/\u2212(?=[\d.])/g, "-");
  const shown = cell => field(cell.dataset.value ?? plain(cell.textContent));
  const csv = table => Array.from(table.rows, row =>
    Array.from(row.cells, shown).join(",") + "\r\n").join("");
  const slug = text => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  const names = new Set();
  const nameOf = table => {
    const part = table.closest("section");
    const own = table.dataset.name || (part && part.id) || "table";
    const first = slug(document.title + " " + own).slice(0, 100);
    let name = first, n = 2;
    while (names.has(name)) name = first + "-" + n++;
    names.add(name);
    return name + ".csv";
  };
  for (const table of document.querySelectorAll("table")) {
    const name = nameOf(table);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "CSV";
    button.title = button.ariaLabel = "Save this table as CSV: " + name;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([csv(table)], {type: "text/csv;charset=utf-8"}));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    const box = table.closest(".scroll");
    (box || table).before(button);
    if (box) new ResizeObserver(() => {
      button.classList.toggle("over", box.clientWidth - table.offsetWidth > 70);
      if (box.scrollWidth > box.clientWidth) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.ariaLabel = "table that scrolls sideways";
      } else for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }).observe(box);
  }
})();
"""

# Draws each figure from the JSON beside it, and lets the keyboard turn, move and scale it.
FIGURES = r"""
for (const box of document.querySelectorAll(".interactive")) {
  const plot = box.querySelector(".live");
  const spec = JSON.parse(box.querySelector("script").textContent);
  // plotly's own buttons for a cloud would send the data away
  const options = {responsive: true, displaylogo: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["sendChartToCloud"]};
  const cross = (a, b) => ({x: a.y * b.z - a.z * b.y, y: a.z * b.x - a.x * b.z,
    z: a.x * b.y - a.y * b.x});
  const times = (a, f) => ({x: a.x * f, y: a.y * f, z: a.z * f});
  const unit = a => times(a, 1 / Math.hypot(a.x, a.y, a.z));
  // about a unit vector at a right angle to it, by an angle
  const about = (v, axis, angle) => {
    const w = cross(axis, v), c = Math.cos(angle), s = Math.sin(angle);
    return {x: v.x * c + w.x * s, y: v.y * c + w.y * s, z: v.z * c + w.z * s};
  };
  // seen from any side, right is right on the screen
  const turn = (camera, x, y, zoom) => {
    const right = unit(cross(camera.up, camera.eye));
    const up = about(unit(cross(camera.eye, right)), right, -0.1 * y);
    const eye = about(about(camera.eye, right, -0.1 * y), up, 0.1 * x);
    return {...camera, eye: times(eye, 1 / zoom), up};
  };
  // what has no perspective grows by its box alone
  const flat = scene => scene.camera.projection.type === "orthographic";
  const move = (range, shift, zoom) => {
    const [low, high] = range.map(Number), middle = (low + high) / 2, half = (high - low) / 2;
    return [middle + 0.2 * shift * half - half / zoom, middle + 0.2 * shift * half + half / zoom];
  };
  Plotly.newPlot(plot, spec.data, spec.layout, options).then(() => {
    const first = {};
    const all = (kind, f) => Object.keys(plot._fullLayout).filter(k => kind.test(k)).forEach(f);
    all(/^scene\d*$/, k => {
      const scene = plot._fullLayout[k];
      first[k + ".camera"] = structuredClone(scene.camera);
      if (flat(scene)) first[k + ".aspectratio"] = {...scene.aspectratio};
    });
    all(/^[xy]axis\d*$/, k => { first[k + ".range"] = plot._fullLayout[k].range.slice(); });
    plot.addEventListener("keydown", event => {
      const x = {ArrowLeft: -1, ArrowRight: 1}[event.key] || 0;
      const y = {ArrowDown: -1, ArrowUp: 1}[event.key] || 0;
      const zoom = {"+": 1.2, "=": 1.2, "-": 1 / 1.2}[event.key] || 1;
      if (event.target !== plot || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!x && !y && zoom === 1 && event.key !== "0") return;
      event.preventDefault();
      const now = plot._fullLayout, to = {};
      for (const key in first) {
        const [part, what] = key.split(".");
        if (event.key === "0") to[key] = first[key];
        else if (what === "aspectratio") to[key] = times(now[part].aspectratio, zoom);
        else if (what === "camera")
          to[key] = turn(now[part].camera, x, y, flat(now[part]) ? 1 : zoom);
        else to[key] = move(now[part].range, part[0] === "x" ? x : y, zoom);
      }
      Plotly.relayout(plot, to);
    });
    box.classList.add(plot.querySelector(".no-webgl") ? "failed" : "drawn");
  }).catch(error => { box.classList.add("failed"); console.error(error); });
}
"""
