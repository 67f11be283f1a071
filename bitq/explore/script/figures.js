// The plots: drawn by Bokeh, they show the runs of the table and share its selection.
const PLOTS = ["size", "ablation", "distillation", "ring"];
const CURVES_SHOWN = 24;
const DASHES = ["solid", "dashed", "dotted", "dotdash"];
const SIGNS = { "-1": ["negative", "c1"], 0: ["zero", "c0"], 1: ["positive", "c2"] };
const plots = { all: null, levelsOf: undefined };

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const curves = { epochs: decode(data.curves.epochs), starts: [0] };
for (const metric of ["test_accuracy", "train_loss"]) curves[metric] = new Float32Array(bytes(data.curves[metric]));
for (const epochs of curves.epochs) curves.starts.push(curves.starts.at(-1) + epochs.length);

const layers = { starts: [0], shares: new Uint16Array(bytes(data.layers.shares)), begins: [0] };
for (const name of ["layer", "weights", "bits_per_weight", "codes_used", "signs"]) layers[name] = decode(data.layers[name]);
for (const count of data.layers.counts) layers.starts.push(layers.starts.at(-1) + count);
for (const signs of layers.signs) layers.begins.push(layers.begins.at(-1) + signs.length);
const layersOf = (run) => EVERY.length && Array.from({ length: data.layers.counts[run] }, (_, place) => layers.starts[run] + place);
const sharesOf = (layer) => Array.from(layers.shares.subarray(layers.begins[layer], layers.begins[layer + 1]), (share) => (100 * share) / 65535);

const NAMED = ["page", "text", "line", "c0", "c1", "c2", "c3", "c4", "c5", "c6"];
const colors = {};
const color = (name) => colors[name];
const model = (name) => plots.all.get_model_by_name(name);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// A plot is painted when it comes near the screen; its data are there from the start.
async function embedPlots() {
  const described = JSON.parse(at("document").textContent);
  const places = Object.fromEntries(described.roots.map((root) => [root.id, root.attributes.name.replace("plot_", "")]));
  await Bokeh.embed.embed_items({ all: described }, [{ docid: "all", roots: places, root_ids: Object.keys(places) }]);
  plots.all = Bokeh.documents.at(-1);
  const coarse = matchMedia("(pointer: coarse)").matches;
  for (const root of plots.all.roots()) if (coarse) root.toolbar.active_drag = null; // a finger scrolls the page
  restyle();
  drawPlots();
  model("runs").selected.properties.indices.change.connect(followPlots);
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) model(`plot_${target.id}`).visible = true;
  }, { rootMargin: "300px" });
  for (const place of Object.values(places)) near.observe(at(place));
}

function followPlots() {
  const chosen = model("runs").selected.indices;
  if (chosen.length === state.ticked.size && chosen.every((run) => state.ticked.has(run))) return;
  state.ticked = new Set(chosen);
  if (chosen.length === 1) openRun(chosen[0], false);
  changed();
}

function drawPlots() {
  if (!plots.all) return;
  const shown = new Set(state.shown);
  model("shown").booleans = EVERY.map((run) => shown.has(run));
  const source = model("runs"), ticked = [...state.ticked].sort((a, b) => a - b);
  if (String(source.selected.indices) !== String(ticked)) source.selected.indices = ticked;
  drawFronts();
  for (const name of PLOTS) drawMeans(name);
  drawCurves();
}

// Mean accuracy and bytes of an arm over the seeds shown.
function arms() {
  const found = new Map();
  for (const run of state.shown) {
    if (runs.accuracy[run] === null || runs.file_bytes[run] === null) continue;
    const key = [runs.scale[run], runs.dataset[run], runs.model[run], runs.arm[run], runs.study[run].replace("-extended", "")].join("/");
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(run);
  }
  return [...found.values()].map((members) => ({
    name: runs.arm[members[0]], model: runs.model[members[0]], dataset: runs.dataset[members[0]], scale: runs.scale[members[0]],
    n: members.length, accuracy: mean(members.map((run) => runs.accuracy[run])), size: mean(members.map((run) => runs.file_bytes[run])) / 1024,
  }));
}

function fronts() {
  const found = new Map();
  for (const arm of arms().sort((a, b) => a.size - b.size || b.accuracy - a.accuracy)) {
    const key = `${arm.scale}/${arm.dataset}`;
    if (!found.has(key)) found.set(key, []);
    const front = found.get(key);
    if (!front.length || arm.accuracy > front.at(-1).accuracy) front.push(arm);
  }
  return [...found.values()];
}

function drawFronts() {
  const lines = fronts().sort((a, b) => a.at(-1).accuracy - b.at(-1).accuracy), ends = lines.map((line) => line.at(-1));
  const several = new Set(ends.map((arm) => arm.scale)).size > 1;
  model("pareto").data = { xs: lines.map((line) => line.map((arm) => arm.size)), ys: lines.map((line) => line.map((arm) => arm.accuracy)) };
  const text = ends.map((arm) => shownAs("dataset", arm.dataset) + (several ? `, ${arm.scale}` : ""));
  model("pareto_ends").data = { x: ends.map((arm) => arm.size), y: labelHeights(ends, text), text };
}

// Names left of the ends of lines, from below, each above those that would hide it.
function labelHeights(ends, text) {
  const heights = [], found = state.shown.map((run) => runs.accuracy[run]).filter((value) => value !== null);
  const step = 0.05 * (found.reduce((a, b) => Math.max(a, b), 0) - found.reduce((a, b) => Math.min(a, b), 100));
  const sizes = state.shown.map((run) => runs.file_bytes[run]).filter((value) => value);
  const range = Math.log(sizes.reduce((a, b) => Math.max(a, b), 1) / sizes.reduce((a, b) => Math.min(a, b), Infinity));
  const letter = 7 * range / at("size").clientWidth; // 7 pixels wide, margins included
  const left = ends.map((arm, place) => Math.log(arm.size) - letter * text[place].length);
  for (const [place, arm] of ends.entries()) {
    const below = heights.filter((_, other) => left[place] < Math.log(ends[other].size) && left[other] < Math.log(arm.size));
    heights[place] = Math.max(arm.accuracy, ...below.map((height) => height + step));
  }
  return heights;
}

// Runs of a plot that are shown, by their row and series.
function groups(name) {
  const source = model("runs").data, found = new Map();
  for (const run of state.shown) {
    const [x, y] = [source[`${name}_x`][run], source[`${name}_y`][run]];
    if (Number.isNaN(x)) continue;
    if (!found.has(y)) found.set(y, []);
    found.get(y).push({ x, run });
  }
  return found;
}

function drawMeans(name) {
  const found = groups(name);
  at(name).parentElement.querySelector(".empty").hidden = found.size > 0;
  if (name === "size") return;
  model(`${name}_means`).data = { x: [...found.values()].map((members) => mean(members.map(({ x }) => x))), y: [...found.keys()] };
}

const armOf = (run) => ["scale", "study", "dataset", "model", "arm"].map((name) => runs[name][run]).join("/");

function curveRuns() {
  const chosen = state.shown.filter((run) => state.ticked.has(run));
  if (chosen.length > 1) return [chosen, "the selected runs"];
  const first = chosen[0] ?? state.open ?? state.shown[0];
  if (first === undefined) return [[], ""];
  return [EVERY.filter((run) => armOf(run) === armOf(first)), `every seed of ${runs.id[first].replace(/\/s\d+$/, "")}`];
}

function curveLines() {
  const metric = at("metric").value, [all, whose] = curveRuns();
  const drawn = all.filter((run) => curves.epochs[run].length).slice(0, CURVES_SHOWN);
  const families = [...new Set(drawn.map(armOf))], seeds = [...new Set(drawn.map((run) => runs.seed[run]))];
  const single = families.length === 1;
  return [all, whose, drawn.map((run) => ({
    run,
    xs: curves.epochs[run],
    ys: Array.from(curves[metric].subarray(curves.starts[run], curves.starts[run + 1])),
    color: `c${single ? seeds.indexOf(runs.seed[run]) % 7 : families.indexOf(armOf(run)) % 7}`,
    dash: DASHES[(single ? Math.floor(seeds.indexOf(runs.seed[run]) / 7) : seeds.indexOf(runs.seed[run])) % 4],
    label: single ? `seed ${runs.seed[run]}` : runs.id[run],
  }))];
}

function drawCurves() {
  const [all, whose, lines] = curveLines();
  const strokes = lines.map((line) => color(line.color));
  const many = all.length > lines.length ? `, the first ${lines.length} of ${all.length} that have a curve` : "";
  const longest = Math.max(0, ...lines.map((line) => line.xs.at(-1)));
  const kept = Math.max(0, ...lines.map((line) => line.xs.length));
  const thinned = kept < longest ? `; ${kept} evenly spaced ones of ${longest} epochs are drawn` : "";
  at("curves-of").textContent = whose ? `Of ${whose}${many}${thinned}.` : "No run is shown.";
  model("curves").data = { xs: lines.map((line) => line.xs), ys: lines.map((line) => line.ys), color: strokes, dash: lines.map((line) => line.dash), label: lines.map((line) => line.label) };
  model("curve_marks").data = {
    x: lines.flatMap((line) => line.xs), y: lines.flatMap((line) => line.ys),
    color: lines.flatMap((line, place) => line.xs.map(() => strokes[place])), label: lines.flatMap((line) => line.xs.map(() => line.label)),
  };
  model("plot_curves").left[0].axis_label = at("metric").selectedOptions[0].textContent;
  at("curves-legend").replaceChildren(...lines.map((line) => {
    const stroke = element("i", { className: line.color });
    stroke.style.borderTopStyle = { solid: "solid", dotted: "dotted" }[line.dash] ?? "dashed";
    return element("li", {}, stroke, line.label);
  }));
  offerLayers(state.open ?? all.find((run) => data.layers.counts[run]));
}

function offerLayers(run) {
  const found = run === undefined ? [] : layersOf(run), before = at("layer").value;
  at("levels-of").textContent = found.length ? `Of ${runs.id[run]}.` : run === undefined ? "No run with packed layers is chosen." : `${runs.id[run]} ships no layer as codes.`;
  at("layer").replaceChildren(...found.map((layer) => element("option", { value: layers.layer[layer], textContent: `${layers.layer[layer]} (${layers.weights[layer]} weights)` })));
  at("layer").disabled = !found.length;
  const largest = found.reduce((best, layer) => (best === undefined || layers.weights[layer] > layers.weights[best] ? layer : best), undefined);
  if (found.some((layer) => layers.layer[layer] === before)) at("layer").value = before;
  else if (largest !== undefined) at("layer").value = layers.layer[largest];
  plots.levelsOf = run;
  drawLevels();
}

function levelRows() {
  const run = plots.levelsOf;
  const layer = run === undefined ? undefined : layersOf(run).find((each) => layers.layer[each] === at("layer").value);
  if (layer === undefined) return [];
  return sharesOf(layer).map((share, code) => ({ code, share, sign: SIGNS[layers.signs[layer][code]] }));
}

function drawLevels() {
  if (!plots.all) return;
  const rows = levelRows();
  model("levels").data = { x: rows.map(({ code }) => code), top: rows.map(({ share }) => share), sign: rows.map(({ sign }) => sign[0]), color: rows.map(({ sign }) => color(sign[1])) };
}

// Bokeh paints on canvas, where no style sheet reaches.
function restyle() {
  if (!plots.all) return;
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMED) colors[name] = style.getPropertyValue(`--${name}`).trim();
  const { page, text, line } = colors;
  for (const plot of plots.all.roots()) {
    plot.setv({ background_fill_color: page, border_fill_color: page, outline_line_color: line });
    for (const axis of [...plot.below, ...plot.left]) {
      axis.setv({ axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: line, axis_label_text_color: text, major_label_text_color: text, axis_label_text_font_style: "normal" });
    }
    for (const each of plot.center) if (each.type === "Grid") each.grid_line_color = line;
    for (const each of plot.center) if (each.type === "Span") each.line_color = line;
  }
  for (const name of PLOTS.slice(1)) model(`${name}_bars`).glyph.line_color = { value: text };
  model("pareto_line").glyph.line_color = { value: text };
  model("pareto_names").glyph.setv({ text_color: { value: text }, background_fill_color: { value: page } });
  model("palette").palette = NAMED.slice(3).map(color);
}

// The numbers of a plot for those who cannot see it.
function tableOf(name) {
  if (name === "levels") return [["Code", "Value", "Share, %"], ...levelRows().map(({ code, share, sign }) => [code, sign[0], share.toFixed(3)])];
  if (name === "curves") return [["Run", "Epoch", at("metric").selectedOptions[0].textContent], ...curveLines()[2].flatMap((line) => line.xs.map((epoch, place) => [runs.id[line.run], epoch, line.ys[place].toFixed(3)]))];
  if (name === "size") {
    const best = new Set(fronts().flat().map((arm) => `${arm.scale}/${arm.dataset}/${arm.model}/${arm.name}`));
    const rows = arms().map((arm) => [shownAs("dataset", arm.dataset), shownAs("model", arm.model), arm.name, arm.size.toFixed(1), arm.accuracy.toFixed(2), arm.n, best.has(`${arm.scale}/${arm.dataset}/${arm.model}/${arm.name}`) ? "yes" : ""]);
    return [["Data set", "Network", "Arm", "KiB", "Accuracy, %", "n", "On the line"], ...rows];
  }
  const value = name === "distillation" ? "Gain, points" : "Accuracy, %";
  const rows = [...groups(name)].sort(([a], [b]) => b - a).map(([y, members]) => {
    const { run } = members[0];
    return [data.rows[name][Math.round(-y)], shownAs("dataset", runs.dataset[run]), shownAs("model", runs.model[run]), shownAs("kd", runs.kd[run]), mean(members.map(({ x }) => x)).toFixed(2), members.map(({ x }) => x.toFixed(2)).join(", "), members.length];
  });
  return [["Row", "Data set", "Network", "Distilled", `${value}, mean`, "of each run", "n"], ...rows];
}

function drawFallback(details) {
  if (!details.open || !plots.all) return;
  const [head, ...rows] = tableOf(details.dataset.plot);
  const cells = (row, tag) => element("tr", {}, ...row.map((text) => element(tag, { textContent: text })));
  const table = element("table", {}, element("thead", {}, cells(head, "th")), element("tbody", {}, ...rows.map((row) => cells(row, "td"))));
  for (const each of table.tHead.rows[0].cells) each.scope = "col";
  details.querySelector(".scroll").replaceChildren(table);
}
