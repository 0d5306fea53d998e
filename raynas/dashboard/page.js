// The page: asks the server for JSON, and shows it. All text is set as text, never as HTML.
"use strict";

const EVERY = 2000; // ms between two looks
const TEXTS = ["ended", "purpose"]; // columns of words
const CLAIMS = 6; // shown at once
const token = document.querySelector("meta[name=raynas-token]").content;
const $ = (id) => document.getElementById(id);
const shown = { name: null, trial: null, key: null, older: [], front: "", runs: "", asked: 0 };

function el(tag, text, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  if (text !== null && text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") made.addEventListener("click", value);
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

async function ask(path, data) {
  const options = data === undefined ? {} : {
    method: "POST", body: JSON.stringify(data),
    headers: { "Content-Type": "application/json", "X-RayNAS-Token": token },
  };
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
}

const of = (name, rest = "") => `/api/runs/${encodeURIComponent(name)}${rest}`;
const count = (n) => n.toLocaleString("en");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// runs -------------------------------------------------------------------------------------

async function listRuns() {
  const { runs } = await ask("/api/runs");
  const text = JSON.stringify([runs, shown.name]);
  if (text === shown.runs) return;
  shown.runs = text;
  const focused = document.activeElement?.dataset?.run;
  $("runs").replaceChildren(...runs.map((run) => {
    const best = (run.shown_best || [])[0];
    const done = run.all ? `${count(run.done)} of ${count(run.all)}` : count(run.done || 0);
    const left = run.left ? `, ${run.left} left` : "";
    const button = el("button", null, {
      type: "button", "data-run": run.name, click: () => choose(run.name),
      "aria-current": run.name === shown.name ? "true" : null,
    },
      el("span", null, { class: "top" }, el("strong", run.name),
        el("span", run.state, { class: `badge ${run.state}` })),
      el("span", run.error || `${done} trials${left}`, { class: "quiet" }));
    if (run.all) button.append(el("progress", null, { max: run.all, value: Math.min(run.done, run.all), "aria-hidden": "true" }));
    if (best) button.append(el("span", `best ${best.metric} ${best.value}`, { class: "quiet" }));
    return el("li", null, {}, button);
  }));
  if (!runs.length) $("runs").append(el("li", "No runs here yet. A search with --run FOLDER/NAME makes one.", { class: "quiet" }));
  if (focused) [...$("runs").querySelectorAll("button")].find((b) => b.dataset.run === focused)?.focus();
  if (shown.name === null && runs.length) {
    const wanted = decodeURIComponent(location.hash.slice(1));
    choose((runs.find((r) => r.name === wanted) || runs.find((r) => r.state === "running") || runs[0]).name);
  }
}

function choose(name) {
  Object.assign(shown, { name, trial: null, key: null, older: [], front: "" });
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  for (const id of ["trial", "confirm"]) $(id).hidden = true;
  for (const id of ["answer", "started"]) $(id).textContent = "";
  $("empty").hidden = true;
  $("run").hidden = false;
  $("name").textContent = name;
  look();
}

// progress ---------------------------------------------------------------------------------

function progress(run) {
  const failed = run.failures.reduce((n, c) => n + c.count, 0);
  $("state").textContent = run.state;
  $("state").className = `badge ${run.state}`;
  $("where").textContent = [run.title, run.run].filter(Boolean).join(" · ");
  $("report").hidden = !run.report;
  $("report").href = `/report/${encodeURIComponent(run.name)}`;
  $("bar").max = run.all || 1;
  $("bar").value = Math.min(run.done || 0, run.all || 1);
  const rate = run.trials_per_second.last_minute || run.trials_per_second.overall;
  const figures = [
    ["Trials", run.all ? `${count(run.done)} of ${count(run.all)}` : count(run.done || 0), howEnded(run)],
    ...(run.state === "stopped" ? [] : [["Running", count(run.running), run.now?.waiting ? `${run.now.waiting} waiting` : ""]]),
    ["Time", run.left ? `${run.left} left` : run.busy, run.left ? `${run.busy} at work` : "at work"],
    ...(rate ? [["Pace", `${(rate * 60).toPrecision(3)}`, "trials per minute"]] : []),
    ...run.shown_best.map((b) => [`Best ${b.metric}`, b.value, `trial ${b.trial}`]),
    ["Front", count(run.front_size), "designs"],
  ];
  $("figures").replaceChildren(...figures.map(([name, value, note]) =>
    el("div", null, {}, el("dt", name), el("dd", value), ...(note ? [el("dd", note)] : []))));
  const causes = run.failures.slice(0, 5).map((c) => el("li", null, {},
    document.createTextNode(`${count(c.count)} × ${c.text} `),
    el("button", `trial ${c.trial}`, { type: "button", class: "link", click: () => select(c.trial, true) })));
  $("failures").replaceChildren(...(failed ? [el("p", `${count(failed)} failed, by cause:`), el("ul", null, {}, ...causes)] : []));
  for (const note of [...run.notes, ...(run.now?.trouble ? [run.now.trouble] : [])]) $("failures").append(el("p", note));
  const words = { going: "The search goes on with what you said …", ended: "What you said was acted on.", failed: "It did not go on:\n" };
  $("started").textContent = run.started ? words[run.started.state] + (run.started.state === "failed" ? run.started.text : "") : "";
}

function howEnded(run) {
  const told = {};
  for (const group of Object.values(run.trials)) for (const [s, n] of Object.entries(group)) told[s] = (told[s] || 0) + n;
  return Object.entries(told).map(([s, n]) => `${count(n)} ${s === "infeasible" ? "over a limit" : s.replace("_", " ")}`).join(", ");
}

// charts -----------------------------------------------------------------------------------

function layout(x, y) {
  const axis = (title) => ({ title: { text: title, font: { size: 12 } }, gridcolor: color("--rule"), zeroline: false, automargin: true });
  return {
    margin: { l: 10, r: 10, t: 10, b: 10 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("--quiet"), size: 12, family: "system-ui, sans-serif" }, xaxis: axis(x), yaxis: axis(y),
    showlegend: false, hovermode: "closest", dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", uirevision: shown.name,
  };
}

const CONFIG = { responsive: true, displayModeBar: false };

function drawFront(found) {
  const [x, y] = found.axes;
  const hover = `trial %{customdata}<br>${x} %{x}<br>${y} %{y}<extra></extra>`;
  const trace = (points, marker) => ({
    type: "scatter", mode: "markers", x: points.x, y: points.y, customdata: points.trial, hovertemplate: hover, marker,
  });
  const here = (points) => points.trial.map((t) => (t === shown.trial ? 3 : 1));
  const size = (points, n) => points.trial.map((t) => (t === shown.trial ? n + 5 : n));
  const traces = [
    trace(found.others, { color: color("--faint"), opacity: .55, size: size(found.others, 7) }),
    trace(found.front, {
      color: color("--accent"), size: size(found.front, 11), opacity: 1,
      line: { color: found.front.trial.map((t) => color(t === shown.trial ? "--ink" : "--paper")), width: here(found.front) },
    }),
  ];
  Plotly.react("chart", traces, layout(x, y), CONFIG);
  const chart = $("chart");
  if (!chart.dataset.heard) {
    chart.dataset.heard = "1";
    chart.on("plotly_click", (event) => select(Number(event.points[0].customdata), true));
  }
}

function frontOf(found) {
  const text = JSON.stringify([found, shown.trial, matchMedia("(prefers-color-scheme: dark)").matches]);
  if (text === shown.front) return;
  shown.front = text;
  shown.found = found;
  const some = found.left_out ? ` ${count(found.left_out)} more are not drawn.` : "";
  $("front-note").textContent = found.front.trial.length
    ? `${found.objectives.join(", ")}. Blue designs are on the front: no other is better in everything. Click one, or choose it in the table.${some}`
    : "No design was measured yet.";
  $("chart").hidden = !found.front.trial.length;
  if (found.front.trial.length) drawFront(found);
  const names = found.objectives;
  $("front").replaceChildren(
    head(["trial", ...names]),
    body(found.table.map((row) => [row.trial, ...row.metrics])));
  const grown = found.hypervolume;
  $("volume").hidden = !grown.length;
  if (grown.length) {
    $("volume-now").textContent = `${grown[grown.length - 1].toFixed(3)} of the box between the worst of the first readings and the best of each`;
    Plotly.react("volume-chart", [{ type: "scatter", mode: "lines", y: grown, x: grown.map((_, i) => (i + 1) / grown.length), line: { color: color("--accent"), shape: "hv" }, hovertemplate: "%{y:.3f}<extra></extra>" }],
      layout("share of the designs measured", ""), CONFIG);
  }
}

const head = (names) => el("thead", null, {}, el("tr", null, {}, ...names.map((n, i) => el("th", n, { scope: "col", class: i && !TEXTS.includes(n) ? "number" : null }))));

function body(rows) {
  return el("tbody", null, {}, ...rows.map(([trial, ...cells]) => el("tr", null, { "aria-selected": trial === shown.trial ? "true" : null },
    el("td", null, {}, el("button", `${trial}`, { type: "button", class: "link", "data-trial": trial, "aria-label": `trial ${trial}`, click: () => select(trial, true) })),
    ...cells.map((c) => el("td", c, { class: /^[a-z]/.test(c) ? null : "number" })))));
}

// trials -----------------------------------------------------------------------------------

async function listTrials() {
  const name = shown.name;
  const path = (before) => of(name, `/trials?status=${$("status").value}${before ? `&before=${before}` : ""}`);
  const pages = [await ask(path())];
  for (const before of shown.older) pages.push(await ask(path(before)));
  if (name !== shown.name) return;
  const found = pages[0];
  const rows = pages.flatMap((p) => p.trials);
  shown.more = pages[pages.length - 1].more;
  $("older").hidden = shown.more === null;
  const text = JSON.stringify([rows, shown.trial]);
  if ($("trials").dataset.text === text) return;
  $("trials").dataset.text = text;
  const focused = $("trials").contains(document.activeElement) ? document.activeElement.dataset.trial : null;
  $("trials").replaceChildren(head(["trial", "ended", "purpose", "epochs", ...found.objectives]),
    body(rows.map((r) => [r.trial, r.status, r.purpose, r.epochs, ...r.metrics])));
  if (focused) $("trials").querySelector(`[data-trial="${focused}"]`)?.focus();
}

async function select(trial, go) {
  const name = shown.name;
  shown.trial = trial;
  const asked = ++shown.asked;
  const current = () => asked === shown.asked && name === shown.name;
  let found;
  try { found = await ask(of(name, `/trials/${trial}`)); } catch (error) { return offline(error); }
  if (!current()) return;
  $("trial").hidden = false;
  $("trial-title").textContent = `Trial ${trial}`;
  $("trial-told").textContent = found.told.join(" · ");
  $("metrics").replaceChildren(...pairs(found.metrics));
  $("options").replaceChildren(...pairs(found.options));
  $("design").textContent = found.design;
  $("reasons").replaceChildren(...found.reasons.map((r) => el("li", r)));
  $("trial-error").hidden = !found.error;
  $("error").textContent = found.error || "";
  $("log-box").hidden = !found.log;
  $("log").textContent = found.log || "";
  $("layers").replaceChildren();
  $("claims").replaceChildren();
  if (go) { $("trial").focus({ preventScroll: true }); $("trial").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" }); }
  drawCurve(found.curve);
  if (shown.found) frontOf(shown.found);
  if (!found.metrics.length || found.error) { $("claims-state").textContent = "Nothing is claimed of a design without readings."; return; }
  $("claims-state").textContent = "Reads what is known of it …";
  try {
    const known = await ask(of(name, `/trials/${trial}/claims`));
    if (current()) claimsOf(name, trial, known);
  } catch (error) { if (current()) $("claims-state").textContent = error.message; }
}

const pairs = (rows) => rows.map(([n, v]) => el("tr", null, {}, el("th", n, { scope: "row" }), el("td", v)));

function drawCurve(curve) {
  const drawn = Object.entries(curve).filter(([, c]) => c.filter((v) => v !== null).length > 1 && c.every((v) => v === null || Math.abs(v) <= 1000));
  const wanted = drawn.filter(([name]) => /accuracy|loss/.test(name));
  const lines = wanted.length ? wanted : drawn.slice(0, 4);
  $("curve-title").hidden = $("curve").hidden = !lines.length;
  if (!lines.length) return;
  const traces = lines.map(([name, c], i) => ({ type: "scatter", mode: "lines+markers", name, x: c.map((_, e) => e + 1), y: c, line: { color: color(`--option${i % 10}`), dash: ["solid", "dot", "dash"][i % 3] } }));
  const look = layout("epoch", "");
  Object.assign(look, { showlegend: true, legend: { orientation: "h", y: 1.15 } });
  look.margin.t = 45;
  look.xaxis.dtick = Math.max(1, Math.ceil(lines[0][1].length / 8));
  Plotly.react("curve", traces, look, CONFIG);
}

function claimsOf(name, trial, known) {
  $("layers").replaceChildren(...known.layers.map((layer) => {
    const said = el("ul", null, { class: "said" });
    const why = el("button", "Why?", { type: "button", "aria-expanded": "false", "aria-label": `Why is layer ${layer.layer} like this?` });
    why.addEventListener("click", async () => {
      const open = why.getAttribute("aria-expanded") === "true";
      why.setAttribute("aria-expanded", String(!open));
      if (open) return said.replaceChildren();
      said.replaceChildren(el("li", "Reads …"));
      try {
        const { claims } = await ask(of(name, `/trials/${trial}/layers/${layer.layer}`));
        if (claims.length) some(said, claims);
        else said.replaceChildren(el("li", "It is the same in every design: nothing was chosen in it."));
      } catch (error) { said.replaceChildren(el("li", error.message)); }
    });
    return el("li", null, {}, el("div", null, { class: "head" }, el("strong", `${layer.layer} · ${layer.name}`),
      ...layer.decisions.map((d) => el("span", d, { class: "chip" })), why), said);
  }));
  $("claims-state").textContent = known.claims.length ? "" : "Nothing is claimed of this design.";
  some($("claims"), known.claims);
}

// The clearest claims first, the others on demand.
function some(list, claims) {
  const clear = claims.filter((c) => c.kind !== "open");
  const sorted = [...clear, ...claims.filter((c) => c.kind === "open")];
  list.replaceChildren(...sorted.slice(0, CLAIMS).map(claim));
  if (sorted.length <= CLAIMS) return;
  const more = el("button", `All ${sorted.length} claims`, { type: "button", click: () => {
    list.replaceChildren(...sorted.map(claim));
    list.firstElementChild.querySelector("p").tabIndex = -1;
    list.firstElementChild.querySelector("p").focus({ preventScroll: true });
  } });
  list.append(el("li", null, {}, more));
}

function claim(c) {
  const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
  const evidence = [c.tier, plural(c.readings, "reading"), ...(c.direct ? [`${count(c.direct)} of these options themselves`] : []), ...(c.audit ? [`tested: ${c.audit}`] : [])];
  return el("li", null, {}, el("p", c.sentence),
    el("span", c.verdict, { class: `badge ${c.kind}` }), el("span", evidence.join(" · "), { class: "quiet" }));
}

// feedback ---------------------------------------------------------------------------------

function told(text, refused) {
  $("answer").textContent = text;
  $("answer").className = refused ? "refused" : "";
}

$("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = shown.name;
  $("confirm").hidden = true;
  told("Reads it …");
  try {
    const { answer, key } = await ask(of(name, "/say"), { say: $("words").value });
    if (name !== shown.name) return;
    shown.key = key;
    told(answer);
    $("confirm").hidden = false;
  } catch (error) { if (name === shown.name) told(error.message, true); }
});

$("words").addEventListener("input", () => { $("confirm").hidden = true; });

$("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("say").requestSubmit(); }
});

$("confirm").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("confirm").hidden = true;
  try {
    const trials = $("more-trials").value ? Number($("more-trials").value) : null;
    await ask(of(shown.name, "/confirm"), { key: shown.key, trials });
    $("words").value = "";
    look();
  } catch (error) { told(error.message, true); }
});

$("leave").addEventListener("click", () => { $("confirm").hidden = true; told("Nothing was changed."); });
$("status").addEventListener("change", () => { shown.older = []; listTrials().catch(offline); });
$("older").addEventListener("click", () => { shown.older.push(shown.more); listTrials().catch(offline); });

// looking ----------------------------------------------------------------------------------

function offline(error) {
  $("offline").hidden = false;
  $("offline").textContent = error instanceof TypeError ? "The dashboard does not answer. What is shown is old." : error.message;
}

async function look() {
  const name = shown.name;
  try {
    await listRuns();
    if (name !== null) {
      const [run, front] = [await ask(of(name)), await ask(of(name, "/front"))];
      if (name !== shown.name) return;
      progress(run);
      frontOf(front);
      await listTrials();
    }
    $("offline").hidden = true;
  } catch (error) { offline(error); }
}

(async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, EVERY);
})();
