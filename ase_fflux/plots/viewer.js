// Ball-and-stick pictures of a molecule on a canvas: drag turns, the wheel zooms, buttons choose.
// Data: {symbols, colours, radii, bonds: [[i, j]], items: [{name, positions, mode}]}, lengths in
// Angstrom; `mode` (displacements, the largest 1) makes an item move.
"use strict";
function fflux_viewer(figure, data) {
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const caption = figure.querySelector("figcaption");
  const numbers = figure.querySelector("input[name=numbers]");
  const still = figure.querySelector("input[name=still]");
  const amplitude = 0.3, period = 1200;  // Angstrom, ms
  let turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], zoom = 1, item = data.items[0], drawn = 0;

  const size = Math.max(...data.items.map(one => {
    const c = centre(one.positions);
    return Math.max(...one.positions.map(p => Math.hypot(p[0] - c[0], p[1] - c[1], p[2] - c[2])));
  })) + 1.2;

  function centre(points) {
    return [0, 1, 2].map(k => points.reduce((sum, p) => sum + p[k], 0) / points.length);
  }
  function rotate(axis, angle) {
    const c = Math.cos(angle), s = Math.sin(angle), [a, b] = axis === "x" ? [1, 2] : [2, 0];
    const next = turn.map(row => row.slice());
    for (let k = 0; k < 3; k++) {
      next[a][k] = c * turn[a][k] - s * turn[b][k];
      next[b][k] = s * turn[a][k] + c * turn[b][k];
    }
    turn = next;
  }
  function draw(time) {
    const w = canvas.width, h = canvas.height, scale = zoom * Math.min(w, h) / 2 / size;
    const c = centre(item.positions);
    const phase = item.mode && !still.checked ? Math.sin(2 * Math.PI * time / period) : 0;
    const points = item.positions.map((p, i) => {
      const q = p.map((x, k) => x - c[k] + (item.mode ? amplitude * phase * item.mode[i][k] : 0));
      return turn.map(row => row[0] * q[0] + row[1] * q[1] + row[2] * q[2]);
    });
    const x = p => w / 2 + scale * p[0], y = p => h / 2 - scale * p[1];
    const parts = points.map((p, i) => [p[2], () => ball(x(p), y(p), i)]);
    for (const [i, j] of data.bonds) {
      const middle = points[i].map((v, k) => (v + points[j][k]) / 2);
      for (const [end, a] of [[points[i], i], [points[j], j]])
        parts.push([(end[2] + middle[2]) / 2 - 0.2, () => stick(end, middle, a)]);
    }
    function ball(px, py, i) {
      const r = scale * data.radii[i];
      const shade = pen.createRadialGradient(px - r / 3, py - r / 3, r / 10, px, py, r);
      shade.addColorStop(0, "#fff"); shade.addColorStop(0.35, data.colours[i]);
      shade.addColorStop(1, "#333");
      pen.fillStyle = shade;
      pen.beginPath(); pen.arc(px, py, r, 0, 2 * Math.PI); pen.fill();
      if (numbers.checked) {
        pen.fillStyle = "#000"; pen.font = "bold " + Math.max(10, 0.3 * scale) + "px sans-serif";
        pen.textAlign = "center"; pen.textBaseline = "middle";
        pen.fillText(data.symbols[i] + (i + 1), px, py);
      }
    }
    function stick(from, to, i) {
      for (const [colour, width] of [["#555", 0.16], [data.colours[i], 0.1]]) {
        pen.strokeStyle = colour; pen.lineWidth = scale * width;
        pen.beginPath(); pen.moveTo(x(from), y(from)); pen.lineTo(x(to), y(to)); pen.stroke();
      }
    }
    pen.clearRect(0, 0, w, h);
    parts.sort((a, b) => a[0] - b[0]).forEach(part => part[1]());
    figure.dataset.frames = ++drawn;
  }
  function choose(index) {
    item = data.items[index];
    caption.textContent = item.name;
    figure.dataset.item = index;
    for (const row of document.querySelectorAll("[data-shows='" + figure.id + "']"))
      row.classList.toggle("chosen", Number(row.dataset.index) === index);
    draw(period / 4);
  }
  for (const row of document.querySelectorAll("[data-shows='" + figure.id + "']")) {
    row.tabIndex = 0;
    row.addEventListener("click", () => choose(Number(row.dataset.index)));
    row.addEventListener("keydown", e => { if (e.key === "Enter") row.click(); });
  }
  canvas.addEventListener("pointermove", e => {
    if (!e.buttons) return;
    rotate("x", e.movementY / 100); rotate("y", e.movementX / 100); draw(performance.now());
  });
  canvas.addEventListener("wheel", e => {
    e.preventDefault(); zoom *= Math.exp(-e.deltaY / 800); draw(performance.now());
  }, {passive: false});
  canvas.addEventListener("keydown", e => {
    const [axis, sign] = {ArrowUp: ["x", -1], ArrowDown: ["x", 1], ArrowLeft: ["y", -1],
                          ArrowRight: ["y", 1]}[e.key] || [];
    if (axis) { e.preventDefault(); rotate(axis, 0.1 * sign); draw(performance.now()); }
  });
  numbers.addEventListener("change", () => draw(performance.now()));
  choose(0);
  (function animate(time) {
    if (item.mode && !still.checked) draw(time);
    requestAnimationFrame(animate);
  })(0);
}
window.addEventListener("error", e => { document.body.dataset.error = e.message; });
for (const figure of document.querySelectorAll("figure.viewer"))
  fflux_viewer(figure, JSON.parse(document.getElementById(figure.id + "-data").textContent));
