"use strict";
// Shows the rollouts that lie in the page as JSON.  All text goes in as text, never as markup.
(() => {
  const PER_PAGE = 8, AS_TRAINED = "as trained";
  const LOW = 1, HIGH = 2, GATED = 4, IDLE = 8;
  const get = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(get(id).textContent);
  if (!get("index")) return;
  const index = read("index");
  if (!index.rollouts.length) return;
  get("viewer").hidden = false;
  get("empty").hidden = true;

  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  // A list is written as one number where all of its entries are the same.
  const at = (values, i) => (Array.isArray(values) ? values[i] : values === undefined ? null : values);
  const known = (x) => x !== null && x !== undefined;
  const shown = (x) => {
    if (!known(x)) return "-";
    const size = Math.abs(x);
    return size !== 0 && (size < 0.001 || size >= 100000) ? x.toExponential(2) : String(+x.toPrecision(4));
  };
  const shownRatio = (logRatio) => {
    if (!known(logRatio)) return "-";
    const excess = Math.expm1(logRatio);
    if (excess === 0) return "1";
    return Math.abs(excess) < 0.001 ? `1 ${excess < 0 ? "-" : "+"} ${Math.abs(excess).toExponential(2)}` : String(+Math.exp(logRatio).toPrecision(5));
  };

  // What a colour can show.  value(rollout, numbers, i) is null where there is nothing to show.
  const own = (name) => (r, a, i) => at(r[name], i);
  const of = (name) => (r, a, i) => (a ? at(a[name], i) : null);
  const difference = (x, y) => (r, a, i) => {
    const [u, v] = [at(r[x], i), at(r[y], i)];
    return known(u) && known(v) ? u - v : null;
  };
  const entropyRatio = (r, a, i) => {
    const [u, v] = [at(r.entropy, i), at(r.old_entropy, i)];
    return known(u) && known(v) ? Math.log((u + 1e-8) / (v + 1e-8)) : null;
  };
  const COLOURS = {
    "trust region": { kind: "state" },
    "ratio": { kind: "signed", value: of("log_ratio"), unit: "log ratio" },
    "token's own ratio": { kind: "signed", value: difference("log_prob", "old_log_prob"), unit: "log ratio" },
    "advantage": { kind: "signed", value: own("token_advantage") },
    "gradient": { kind: "signed", value: of("gradient"), unit: "push per average token" },
    "weight": { kind: "amount", value: of("weight"), unit: "of an average token" },
    "entropy": { kind: "amount", value: own("old_entropy"), unit: "nats, before the update" },
    "entropy change": { kind: "signed", value: entropyRatio, unit: "log of new over old" },
    "log-probability": { kind: "amount", value: (r, a, i) => (known(at(r.log_prob, i)) ? -at(r.log_prob, i) : null), unit: "minus log-probability, nats" },
    "segment": { kind: "amount", value: of("segment"), unit: "0: lowest entropy" },
    "clip width": { kind: "amount", value: of("width"), unit: "distance of the ratio from 1" },
  };
  // Class, what it means, whether the legend has it even where no token is so.
  const STATES = [
    ["low", "clipped low", true], ["high", "clipped high", true], ["gated", "gated", true],
    ["low-kept", "clipped low, keeps a gradient", false], ["high-kept", "clipped high, keeps a gradient", false],
    ["idle", "no gradient for another reason", false], ["moves", "teaches, or has no advantage", true],
  ];
  const stateOf = (state) => {
    if (state & GATED) return "gated";
    if (state & (LOW | HIGH)) return (state & LOW ? "low" : "high") + (state & IDLE ? "" : "-kept");
    return state & IDLE ? "idle" : "moves";
  };

  // What is chosen lives in the address, so that a view can be kept and sent.
  const view = { algorithm: AS_TRAINED, colour: "trust region", run: "", step: "", group: "", verdict: "", page: "0" };
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in view) view[name] = value;
  const remember = () => {
    try {
      history.replaceState(null, "", "#" + new URLSearchParams(view));
    } catch (error) {
      // Some browsers refuse this for a page from the file system; the view works without.
      if (error.name !== "SecurityError") throw error;
    }
  };

  const fill = (name, options, any) => {
    const select = get(name);
    select.replaceChildren();
    for (const [value, label] of [...(any ? [["", any]] : []), ...options]) {
      const option = make("option", "", label);
      option.value = value;
      select.append(option);
    }
    const values = [...select.options].map((o) => o.value);
    if (!values.includes(view[name])) view[name] = values[0] ?? "";
    select.value = view[name];
  };
  const RUN = 0, STEP = 1, GROUP = 2, VERDICT = 3;
  const matches = (entry, without) =>
    [["run", RUN], ["step", STEP], ["group", GROUP], ["verdict", VERDICT]].every(
      ([name, place]) => name === without || view[name] === "" || String(entry[place]) === view[name]);
  const choices = (name, place, label = (x) => x) => {
    const values = new Set(index.rollouts.filter((entry) => matches(entry, name)).map((entry) => entry[place]));
    if (view[name] !== "") for (const e of index.rollouts) if (String(e[place]) === view[name]) values.add(e[place]);
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1);
    return [...values].sort(order).map((value) => [String(value), label(value)]);
  };

  // The numbers of the chosen algorithm; what a run was trained with is kept under that name alone.
  const numbersOf = (rollout, run) => {
    const all = rollout.algorithms;
    if (!all) return null;
    return all[view.algorithm] ?? (index.runs[run].algorithm === view.algorithm ? all[AS_TRAINED] : null) ?? null;
  };

  let pageRollouts = [];
  function scale(spec) {
    const sizes = [];
    for (const { rollout, numbers } of pageRollouts)
      (rollout.tokens || []).forEach((_, i) => {
        const x = spec.value(rollout, numbers, i);
        if (known(x) && at(rollout.sampled, i)) sizes.push(Math.abs(x));
      });
    sizes.sort((a, b) => a - b);
    // A few extreme tokens would leave all others without colour.
    return sizes.length ? sizes[Math.floor(0.98 * (sizes.length - 1))] || sizes[sizes.length - 1] : 0;
  }
  const shade = (spec, x, top) => {
    if (!known(x) || !top || x === 0) return "";
    const alpha = (0.75 * Math.min(Math.abs(x) / top, 1)).toFixed(3);
    const tone = spec.kind === "amount" ? "--amount" : x < 0 ? "--less" : "--more";
    return `rgba(var(${tone}), ${alpha})`;
  };

  function paint() {
    const spec = COLOURS[view.colour];
    const top = spec.kind === "state" ? 0 : scale(spec);
    for (const { rollout, numbers, node } of pageRollouts)
      for (const span of node.children) {
        const i = +span.dataset.i;
        const state = numbers ? stateOf(at(numbers.state, i)) : "moves";
        span.className = at(rollout.sampled, i) ? "" : "given";
        span.style.background = "";
        if (span.className === "given") continue;
        if (spec.kind !== "state") span.style.background = shade(spec, spec.value(rollout, numbers, i), top);
        else if (state !== "moves") {
          span.className = state;
          span.style.background = `var(--${state})`;
        }
      }
    legend(spec, top);
  }

  function legend(spec, top) {
    const node = get("legend");
    node.replaceChildren();
    const key = (text, background, className) => {
      const one = make("span", "key " + (className || ""), text);
      one.style.background = background;
      node.append(one);
    };
    if (spec.kind === "state") {
      const count = {};
      let tokens = 0;
      for (const { rollout, numbers } of pageRollouts)
        (rollout.tokens || []).forEach((_, i) => {
          if (!numbers || !at(rollout.sampled, i)) return;
          tokens += 1;
          const state = stateOf(at(numbers.state, i));
          count[state] = (count[state] || 0) + 1;
        });
      for (const [name, text, always] of STATES)
        if (always || count[name]) key(`${text}: ${tokens ? ((100 * (count[name] || 0)) / tokens).toFixed(1) : "-"} %`, `var(--${name})`);
      node.append(make("span", "", "of the tokens on this page"));
    } else if (!top) {
      node.append(make("span", "", `nothing to show: the file or the algorithm has no ${view.colour}, or it is 0 everywhere`));
    } else {
      const steps = spec.kind === "amount" ? [0, 0.5, 1] : [-1, -0.5, 0, 0.5, 1];
      for (const step of steps) key(shown(step * top), shade(spec, step * top, top));
      node.append(make("span", "", `${view.colour}${spec.unit ? ` (${spec.unit})` : ""}; the strongest colour from the largest 2 % on this page on`));
    }
  }

  function article(number) {
    const [run] = index.rollouts[number];
    const rollout = read(`r${number}`);
    const numbers = numbersOf(rollout, run);
    const node = make("article");
    const title = make("h3", "", `${index.runs[run].name}, step ${rollout.step}, group ${rollout.group ?? "-"}, row ${rollout.row}`);
    if (known(rollout.verdict)) title.append(make("span", `badge ${rollout.verdict === "correct" || rollout.verdict === "wrong" ? rollout.verdict : ""}`, rollout.verdict));
    node.append(title);
    const facts = [["reward", shown(rollout.reward)], ["advantage", shown(rollout.advantage)], ["answer", rollout.extracted], ["gold", rollout.answer],
      ["ended", rollout.finish_reason], ["subject", rollout.subject], ["level", rollout.level], ["problem", rollout.problem_id], ["detail", rollout.detail]];
    node.append(make("div", "facts", facts.filter(([, x]) => known(x) && x !== "").map(([name, x]) => `${name} ${x}`).join("  |  ")));
    node.append(make("div", "problem", rollout.problem ?? ""));
    const body = make("div", "response");
    if (rollout.tokens) {
      const texts = index.runs[run].texts;
      rollout.tokens.forEach((token, i) => {
        const span = make("span", "", texts[token]);
        span.dataset.i = i;
        body.append(span);
      });
    } else body.textContent = rollout.response;
    node.append(body);
    if (rollout.cut) node.append(make("div", "facts", `and ${rollout.cut} more tokens, which the page does not hold`));
    if (rollout.tokens && !numbers) node.append(make("div", "facts", `${view.algorithm} is not computed for this run`));
    if (rollout.tokens) pageRollouts.push({ rollout, numbers, node: body });
    return node;
  }

  function draw() {
    const names = new Set([AS_TRAINED, ...index.runs.flatMap((run) => run.recipes.map(([name]) => name)), ...index.runs.map((run) => run.algorithm)]);
    fill("algorithm", [...names].map((name) => [name, name]));
    fill("colour", Object.keys(COLOURS).map((name) => [name, name]));
    fill("run", choices("run", RUN, (i) => index.runs[i].name), "all");
    fill("step", choices("step", STEP), "all");
    fill("group", choices("group", GROUP), "all");
    fill("verdict", choices("verdict", VERDICT, (x) => x ?? "none"), "all");
    const found = index.rollouts.map((entry, i) => [entry, i]).filter(([entry]) => matches(entry)).map(([, i]) => i);
    const pages = Math.max(Math.ceil(found.length / PER_PAGE), 1);
    view.page = String(Math.min(Math.max(parseInt(view.page, 10) || 0, 0), pages - 1));
    const page = +view.page;
    get("place").textContent = `page ${page + 1} of ${pages}, ${found.length} responses`;
    get("previous").disabled = page === 0;
    get("next").disabled = page === pages - 1;
    pageRollouts = [];
    hideTip();
    get("rollouts").replaceChildren(...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(article));
    const shownRuns = view.run === "" ? index.runs : [index.runs[+view.run]];
    get("recipe").textContent = shownRuns
      .map((run) => {
        const name = run.algorithm === view.algorithm && !run.recipes.some(([n]) => n === view.algorithm) ? AS_TRAINED : view.algorithm;
        const recipe = run.recipes.find(([n]) => n === name);
        return recipe ? `${run.name}: ${recipe[1]}` : `${run.name}: not computed`;
      })
      .join("\n\n");
    paint();
    remember();
  }

  // Numbers of a token
  let pinned = null;
  const tip = get("tip");
  function hideTip() {
    tip.hidden = true;
    if (pinned) pinned.classList.remove("pinned");
    pinned = null;
  }
  function showTip(span, x, y) {
    const found = pageRollouts.find(({ node }) => node === span.parentNode);
    if (!found) return;
    const { rollout, numbers } = found;
    const i = +span.dataset.i;
    const rows = [["token", `${JSON.stringify(span.textContent)} (${rollout.tokens[i]}), number ${i + 1}`]];
    if (!at(rollout.sampled, i)) rows.push(["", "written by the environment, not trained"]);
    else {
      rows.push(["log-prob", `${shown(at(rollout.log_prob, i))}, old ${shown(at(rollout.old_log_prob, i))}, sampler ${shown(at(rollout.sampler_log_prob, i))}`]);
      rows.push(["own ratio", shownRatio(COLOURS["token's own ratio"].value(rollout, null, i))]);
      rows.push(["entropy", `${shown(at(rollout.entropy, i))}, old ${shown(at(rollout.old_entropy, i))}`]);
      rows.push(["advantage", shown(at(rollout.token_advantage, i))]);
      if (numbers) {
        rows.push([view.algorithm, ""]);
        rows.push(["ratio", shownRatio(at(numbers.log_ratio, i))]);
        if (known(at(numbers.segment, i))) rows.push(["segment", at(numbers.segment, i)]);
        if (known(at(numbers.width, i))) rows.push(["clip width", shown(at(numbers.width, i))]);
        rows.push(["weight", shown(at(numbers.weight, i))], ["gradient", shown(at(numbers.gradient, i))]);
        const state = at(numbers.state, i);
        const words = [[LOW, "clipped low"], [HIGH, "clipped high"], [GATED, "gated"], [IDLE, "no gradient"]].filter(([bit]) => state & bit).map(([, word]) => word);
        rows.push(["trust region", words.join(", ") || "inside"]);
      }
    }
    const table = make("table");
    for (const [name, value] of rows) {
      const row = make("tr");
      row.append(make("td", "", name), make("td", "", value));
      table.append(row);
    }
    tip.replaceChildren(table);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(Math.min(x + 14, innerWidth - box.width - 8), 4)}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(y - box.height - 14, 4) : y + 18}px`;
  }
  const tokenAt = (event) => event.target.closest(".response > span");
  get("rollouts").addEventListener("mousemove", (event) => {
    if (pinned) return;
    const span = tokenAt(event);
    if (span) showTip(span, event.clientX, event.clientY);
    else hideTip();
  });
  get("rollouts").addEventListener("mouseleave", () => pinned || hideTip());
  // A click keeps the numbers, for touch screens and for reading them off.
  document.addEventListener("click", (event) => {
    const span = tokenAt(event), again = span && span === pinned;
    hideTip();
    if (!span || again) return;
    showTip(span, event.clientX, event.clientY);
    pinned = span;
    span.classList.add("pinned");
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

  for (const name of ["run", "step", "group", "verdict"])
    get(name).addEventListener("change", (event) => {
      view[name] = event.target.value;
      view.page = "0";
      draw();
    });
  for (const name of ["algorithm", "colour"])
    get(name).addEventListener("change", (event) => {
      view[name] = event.target.value;
      draw();
    });
  for (const [id, step] of [["previous", -1], ["next", 1]])
    get(id).addEventListener("click", () => {
      view.page = String(+view.page + step);
      draw();
    });

  get("bounds").textContent = index.bounds;
  draw();
})();
