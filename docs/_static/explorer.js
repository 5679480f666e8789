// The explorer page: draws the curves of explorer_data.js. No library, no network; works from a file.
"use strict";

(() => {
  const { lines, objectives, token: tokenNames } = EXPLORER;
  const root = document.getElementById("explorer-root");
  const SIDES = ["first", "second"];
  const VIEWS = [[0.998, 1.002], [0.99, 1.01], [0.9, 1.1], [EXPLORER.lowest, 2.5], [EXPLORER.lowest, EXPLORER.highest]];
  const PANELS = ["value, A = +1", "value, A = −1", "gradient by log π, A = +1", "gradient by log π, A = −1"];
  const CURVES = [0, 2, 1, 3]; // of a combination: value and gradient for A = +1, then for A = -1
  const WIDE = 380, TALL = 230, LEFT = 54, RIGHT = 12, TOP = 28, BOTTOM = 26;

  // What is chosen: two names, a stop for each slider, the ratios in view, and where the table reads.
  const state = { first: { name: "gppo", stops: {} }, second: { name: "dapo", stops: {} }, token: {}, view: 3, share: 0.55 };

  const html = (tag, given = {}, ...children) => {
    const node = document.createElement(tag);
    Object.entries(given).forEach(([key, value]) => node.setAttribute(key, value));
    node.append(...children);
    return node;
  };
  const svg = (tag, given = {}, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(given).forEach(([key, value]) => node.setAttribute(key, value));
    node.textContent = text;
    return node;
  };
  const shown = (stop) => (stop === null ? "none" : String(stop));
  const short = (number) => (number === null ? "none: above 1/q" : String(Number(number.toPrecision(5))).replace("-", "−"));

  // Where the stop of a slider is kept: the token's belong to both objectives.
  const keeper = (side, name) => (tokenNames.includes(name) ? state.token : state[side].stops);
  const stopOf = (side, slider) => keeper(side, slider.name)[slider.name] ?? slider.start;

  /** The four curves of a side: flat lists of ratio, height, ratio, height. */
  function curvesOf(side) {
    const { sliders, index } = objectives[state[side].name];
    const place = sliders.reduce((sum, slider) => sum * slider.stops.length + stopOf(side, slider), 0);
    return CURVES.map((kind) => lines[index[4 * place + kind]]);
  }

  /** The height of a curve at a ratio, or null where the curve has ended. */
  function heightAt(line, ratio) {
    if (ratio < line[0] || ratio > line[line.length - 2]) return null;
    let i = 0;
    while (i + 4 < line.length && line[i + 2] < ratio) i += 2;
    const [x0, y0, x1, y1] = line.slice(i, i + 4);
    return y0 + ((y1 - y0) * (ratio - x0)) / (x1 - x0);
  }

  /** The part of a curve between two ratios, as pairs. */
  function between(line, [low, high]) {
    const end = Math.min(high, line[line.length - 2]);
    const points = [];
    for (let i = 0; i < line.length; i += 2) if (line[i] > low && line[i] < end) points.push([line[i], line[i + 1]]);
    return end > low ? [[low, heightAt(line, low)], ...points, [end, heightAt(line, end)]] : [];
  }

  function ticks(low, high, most) {
    const size = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = [1, 2, 5, 10, 20].map((f) => f * size).find((s) => (high - low) / s <= most);
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i <= high / step + 1e-9; i += 1) found.push([i * step, (i * step).toFixed(digits)]);
    return found;
  }

  function panel(number, both) {
    const view = VIEWS[state.view];
    const sign = number % 2 ? -1 : 1;
    const drawn = both.map((curves) => between(curves[number], view));
    const plain = view.map((ratio) => [ratio, sign * ratio]);
    const heights = [...drawn.flat(), ...plain].map(([, height]) => height);
    const spare = 0.08 * (Math.max(...heights) - Math.min(...heights));
    const range = [Math.min(...heights) - spare, Math.max(...heights) + spare];
    const x = (ratio) => LEFT + ((WIDE - LEFT - RIGHT) * (ratio - view[0])) / (view[1] - view[0]);
    const y = (height) => TOP + ((TALL - TOP - BOTTOM) * (range[1] - height)) / (range[1] - range[0]);
    const path = (points) => points.map(([r, h], i) => `${i ? "L" : "M"}${x(r).toFixed(1)} ${y(h).toFixed(1)}`).join("");
    const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": PANELS[number] });
    picture.append(svg("text", { x: LEFT, y: 16, class: "title" }, PANELS[number]));
    ticks(...view, 5).forEach(([at, text]) => picture.append(svg("text", { x: x(at), y: TALL - 8, class: "across" }, text)));
    ticks(...range, 5).forEach(([at, text]) => {
      picture.append(svg("path", { class: "grid", d: `M${LEFT} ${y(at)}H${WIDE - RIGHT}` }));
      picture.append(svg("text", { x: LEFT - 5, y: y(at) + 4, class: "up" }, text.replace("-", "−")));
    });
    picture.append(svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${TALL - BOTTOM}H${WIDE - RIGHT}` }));
    picture.append(svg("path", { class: "plain", d: path(plain) }));
    picture.append(svg("path", { class: "marker", d: `M${x(ratioRead())} ${TOP}V${TALL - BOTTOM}` }));
    drawn.forEach((points, i) => picture.append(svg("path", { class: SIDES[i], d: path(points) })));
    picture.addEventListener("pointerdown", (event) => {
      const box = picture.getBoundingClientRect();
      const at = ((event.clientX - box.left) * WIDE) / box.width;
      state.share = Math.min(1, Math.max(0, (at - LEFT) / (WIDE - LEFT - RIGHT)));
      read.value = Math.round(1000 * state.share);
      draw();
    });
    return picture;
  }

  const ratioRead = () => {
    const [low, high] = VIEWS[state.view];
    return low + state.share * (high - low);
  };

  function slider(side, about) {
    const id = `explorer-${tokenNames.includes(about.name) ? "token" : side}-${about.name}`;
    const input = html("input", { type: "range", id, min: 0, max: about.stops.length - 1, step: 1, value: stopOf(side, about) });
    const output = html("output", { for: id });
    const tell = () => {
      output.textContent = shown(about.stops[stopOf(side, about)]);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => {
      keeper(side, about.name)[about.name] = Number(input.value);
      tell();
      draw();
    });
    tell();
    const label = html("label", { for: id }, html("code", {}, about.name), " ", output);
    input.setAttribute("aria-describedby", `${id}-meaning`);
    return html("div", { class: "slider" }, label, input, html("small", { id: `${id}-meaning` }, about.meaning));
  }

  function fillSide(side) {
    const own = objectives[state[side].name].sliders.filter(({ name }) => !tokenNames.includes(name));
    boxes[side].replaceChildren(...own.map((about) => slider(side, about)));
    if (!own.length) boxes[side].append("It has no numbers that change the curve of one token.");
  }

  function fillToken() {
    const read = SIDES.flatMap((side) => objectives[state[side].name].sliders.map((about) => [side, about]));
    const found = new Map(read.filter(([, { name }]) => tokenNames.includes(name)).map(([side, about]) => [about.name, [side, about]]));
    boxes.token.replaceChildren(...[...found.values()].map(([side, about]) => slider(side, about)));
    if (!found.size) boxes.token.append("These two read nothing of the token but its ratio and its advantage.");
  }

  /** The narrowest view that holds what both objectives are about. */
  function fitView() {
    const highest = Math.max(...SIDES.map((side) => objectives[state[side].name].view[1]));
    const found = VIEWS.findIndex(([, high]) => high >= highest);
    state.view = found < 0 ? VIEWS.length - 1 : found;
    viewChoice.value = state.view;
  }

  function sentence(side) {
    const { name } = state[side];
    const { paper, ratio, sliders } = objectives[name];
    const numbers = sliders.map((about) => `${about.name} ${shown(about.stops[stopOf(side, about)])}`).join(", ");
    return html("p", {}, html("span", { class: `key ${side}` }), html("b", {}, name), ` (${paper}): ${numbers || "no numbers"}; importance ratio ${ratio}.`);
  }

  function draw() {
    const both = SIDES.map(curvesOf);
    panels.replaceChildren(...PANELS.map((_, number) => panel(number, both)));
    told.replaceChildren(...SIDES.map(sentence));
    const ratio = ratioRead();
    readOutput.textContent = short(ratio);
    read.setAttribute("aria-valuetext", readOutput.textContent);
    rows.replaceChildren(
      ...SIDES.map((side, i) => html("tr", {}, html("th", { scope: "row" }, state[side].name), ...both[i].map((line) => html("td", {}, short(heightAt(line, ratio)))))),
    );
  }

  const boxes = { first: html("div"), second: html("div"), token: html("div") };
  const fieldsets = SIDES.map((side, i) => {
    const id = `explorer-${side}`;
    const choice = html("select", { id }, ...Object.keys(objectives).map((name) => html("option", { value: name }, name)));
    choice.value = state[side].name;
    choice.addEventListener("change", () => {
      state[side] = { name: choice.value, stops: {} };
      fillSide(side);
      fillToken();
      fitView();
      draw();
    });
    const legend = html("legend", {}, html("span", { class: `key ${side}` }), `${i ? "Second" : "First"} objective`);
    return html("fieldset", { class: side }, legend, html("label", { for: id }, "Objective "), choice, boxes[side]);
  });
  const viewChoice = html("select", { id: "explorer-view" }, ...VIEWS.map(([low, high], i) => html("option", { value: i }, `${low} to ${high}`)));
  viewChoice.addEventListener("change", () => {
    state.view = Number(viewChoice.value);
    draw();
  });
  const read = html("input", { type: "range", id: "explorer-ratio", min: 0, max: 1000, step: 1, value: 1000 * state.share });
  read.addEventListener("input", () => {
    state.share = Number(read.value) / 1000;
    draw();
  });
  const readOutput = html("output", { for: "explorer-ratio" });
  const panels = html("div", { class: "panels" });
  const told = html("div", { "aria-live": "polite" });
  const rows = html("tbody");
  const head = html("tr", {}, html("td"), ...PANELS.map((name) => html("th", { scope: "col" }, name)));

  root.replaceChildren(
    html("div", { class: "choices" }, ...fieldsets),
    html("fieldset", {}, html("legend", {}, "The token"), boxes.token),
    html("p", {}, html("label", { for: "explorer-view" }, "Importance ratios in view "), viewChoice, " Grey: the plain product r A."),
    panels,
    told,
    html("p", {}, html("label", { for: "explorer-ratio" }, "Read the curves at ratio ", readOutput), read),
    html("div", { class: "table-wrapper" }, html("table", { class: "docutils" }, html("thead", {}, head), rows)),
  );
  SIDES.forEach(fillSide);
  fillToken();
  fitView();
  draw();
})();
