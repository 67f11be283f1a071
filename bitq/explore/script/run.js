// One run: its configuration, its result, its digests, the machine, and the command that trains it.
const fields = Object.fromEntries(Object.entries(data.config.fields).map(([name, packed]) => [name, decode(packed)]));
const MACHINE = ["device", "machine", "threads", "mode", "torch", "wall_seconds", "images_per_second", "peak_memory_bytes", "attempts"];
const DIGESTS = ["hash", "file_sha256", "data_digest", "teacher_hash", "code_sha256"];
const PARENTS = ["teacher", "start"];
const RESULT = data.order.slice(data.order.indexOf("status")).filter((name) => ![...MACHINE, ...DIGESTS].includes(name));

const isFraction = (value) => typeof value === "number" && !Number.isInteger(value);
const written = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(isFraction(value) ? Number(value.toPrecision(6)) : value));

function facts(title, rows) {
  const known = rows.filter(([, value]) => written(value) !== "");
  const body = known.map(([name, value]) => element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", { textContent: written(value) })));
  return element("div", {}, element("h3", { textContent: title }), element("table", {}, element("tbody", {}, ...body)));
}

function parentButtons(run) {
  const found = PARENTS.map((name) => [name, runs[name][run]]).filter(([, id]) => id);
  return found.map(([name, id]) => {
    const parent = EVERY.find((each) => runs.id[each] === id && runs.scale[each] === runs.scale[run]);
    if (parent === undefined) return element("p", { textContent: `${name}: ${id}` });
    const button = element("button", { type: "button", className: "link", textContent: id });
    button.addEventListener("click", () => openRun(parent));
    return element("p", {}, `${name}: `, button);
  });
}

function layerTable(run) {
  const found = layersOf(run);
  if (!found.length) return element("p", { className: "hint", textContent: "No layer ships as codes." });
  const head = ["Layer", "Weights", "Codes", "used", "Bits a weight", "Zeros, %"];
  const rows = found.map((layer) => {
    const zeros = sharesOf(layer).reduce((sum, share, code) => sum + (layers.signs[layer][code] === 0 ? share : 0), 0);
    return [layers.layer[layer], layers.weights[layer], layers.signs[layer].length, layers.codes_used[layer], layers.bits_per_weight[layer].toFixed(3), zeros.toFixed(2)];
  });
  const cells = (row, tag) => element("tr", {}, ...row.map((text, place) => element(tag, { textContent: text, className: place ? "num" : "" })));
  const table = element("table", {}, element("thead", {}, cells(head, "th")), element("tbody", {}, ...rows.map((row) => cells(row, "td"))));
  const region = element("div", { className: "scroll", tabIndex: 0, role: "region" }, table);
  region.setAttribute("aria-label", "Packed layers");
  return element("details", {}, element("summary", { textContent: `${found.length} packed layers` }), region);
}

function drawRun() {
  if (state.open === null) return;
  const run = state.open;
  const config = Object.keys(fields).map((name) => [name, fields[name][run]]);
  at("details").replaceChildren(
    element("h3", { textContent: runs.id[run] }),
    element("p", { textContent: "The command that trains it, and first, where their files are absent, its parents:" }),
    element("pre", {}, element("code", { textContent: data.config.commands[run] })),
    ...parentButtons(run),
    element("div", { className: "facts" },
      facts("Result", RESULT.map((name) => [name, runs[name][run]])),
      facts("Configuration", config),
      facts("Machine", MACHINE.map((name) => [name, runs[name][run]])),
      facts("Digests", [...DIGESTS.map((name) => [name, runs[name][run]]), ["root of all results", data.root]]),
    ),
    layerTable(run),
  );
}

function openRun(run, move = true) {
  state.open = run;
  drawRun();
  if (!move) return;
  changed();
  at("run").scrollIntoView({ block: "start" });
  at("run").focus({ preventScroll: true });
}
