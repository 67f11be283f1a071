// The runs, their filters, and their table.
const data = JSON.parse(document.getElementById("data").textContent);
const decode = (packed) => packed.list ?? packed.of.map((place) => packed.values[place]);
const runs = Object.fromEntries(data.order.map((name) => [name, decode(data.columns[name])]));
const TOTAL = runs.id.length;
const EVERY = Array.from({ length: TOTAL }, (_, run) => run);
const ROWS = 20; // of a page of the table
const RANGES = [["acc", "accuracy"], ["bytes", "file_bytes"]];
const TITLES = { study: "Study", scale: "Scale", dataset: "Data set", model: "Network", method: "Method", kd: "Distilled", seed: "Seed", status: "Status" };
const COLUMNS = [
  { name: "arm", title: "Arm" },
  { name: "accuracy", title: "Accuracy, %", digits: 2 },
  { name: "file_bytes", title: "File, bytes", digits: 0, grouped: true },
  { name: "dataset", title: "Data set" },
  { name: "model", title: "Network" },
  { name: "seed", title: "Seed", digits: 0 },
  { name: "bits_per_packed_weight", title: "Bits a weight", digits: 2 },
  { name: "zeros", title: "Zeros, %", digits: 1, factor: 100 },
  { name: "compression", title: "Compression", digits: 2 },
  { name: "kd", title: "Distilled" },
  { name: "study", title: "Study" },
  { name: "scale", title: "Scale" },
  { name: "status", title: "Status" },
];
const state = { filters: {}, sort: "", page: 0, ticked: new Set(), open: null, shown: EVERY };

const at = (id) => document.getElementById(id);
const form = at("filters");

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// What people read; codes of the grid stay as they are in names of runs.
function shownAs(name, value) {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return data.names[name]?.[value] ?? String(value);
}

function numeral(value, { digits, factor = 1, grouped = false }) {
  if (value === null) return "–";
  const text = (value * factor).toFixed(digits);
  return grouped ? text.replace(/\B(?=(\d{3})+(?!\d))/g, " ") : text;
}

function cellText(column, run) {
  const value = runs[column.name][run];
  return column.digits === undefined ? shownAs(column.name, value) : numeral(value, column);
}

function isShown(run) {
  const { q = "", chosen, ...rest } = state.filters;
  if (chosen && !state.ticked.has(run)) return false;
  const name = runs.id[run].toLowerCase();
  if (!q.toLowerCase().split(/\s+/).every((word) => name.includes(word))) return false;
  if (!data.filters.every((key) => !rest[key] || String(runs[key][run]) === rest[key])) return false;
  return RANGES.every(([key, column]) => {
    const [low, high, value] = [rest[`${key}_min`], rest[`${key}_max`], runs[column][run]];
    return (!low || (value !== null && value >= Number(low))) && (!high || (value !== null && value <= Number(high)));
  });
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return a < b ? -1 : Number(a > b);
}

function sorted(chosen) {
  if (!state.sort) return chosen;
  const down = state.sort.startsWith("-");
  const values = runs[down ? state.sort.slice(1) : state.sort];
  const order = (a, b) => {
    const [x, y] = [values[a], values[b]];
    return (down && x !== null && y !== null ? compare(y, x) : compare(x, y)) || a - b; // no value: last either way
  };
  return [...chosen].sort(order);
}

function refilter() {
  state.shown = sorted(EVERY.filter(isShown));
  state.page = Math.min(state.page, Math.max(0, Math.ceil(state.shown.length / ROWS) - 1));
  drawTable();
}

function drawTable() {
  const start = state.page * ROWS, page = state.shown.slice(start, start + ROWS);
  const focused = document.activeElement?.dataset?.key;
  at("table").tBodies[0].replaceChildren(...page.map(tableRow));
  if (focused) at("table").querySelector(`[data-key="${focused}"]`)?.focus();
  for (const head of at("table").tHead.rows[0].cells) {
    const name = head.dataset.name;
    if (!name) continue;
    if (state.sort.replace("-", "") === name) head.setAttribute("aria-sort", state.sort.startsWith("-") ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  at("pages").textContent = page.length ? `${start + 1}–${start + page.length} of ${state.shown.length}` : "no run";
  at("previous").disabled = start === 0;
  at("next").disabled = start + ROWS >= state.shown.length;
  drawCount();
}

function drawCount() {
  const both = state.shown.filter((run) => state.ticked.has(run)).length;
  const ticked = state.ticked.size ? `${state.ticked.size} selected` + (both < state.ticked.size ? `, ${both} of them shown` : "") : "none selected";
  at("count").textContent = `${state.shown.length} of ${TOTAL} runs shown, ${ticked}.`;
}

function tableRow(run) {
  const tick = element("input", { type: "checkbox", checked: state.ticked.has(run) });
  tick.setAttribute("aria-label", `select ${runs.id[run]}`);
  const open = element("button", { type: "button", className: "link", textContent: runs.arm[run], title: runs.id[run] });
  open.setAttribute("aria-label", `open ${runs.id[run]}`);
  tick.dataset.key = `tick${run}`;
  open.dataset.key = `open${run}`;
  const row = element("tr", { className: [state.ticked.has(run) && "selected", state.open === run && "open"].filter(Boolean).join(" ") });
  row.append(element("td", { className: "tick" }, tick), element("th", { scope: "row" }, open));
  for (const column of COLUMNS.slice(1)) {
    row.append(element("td", { className: column.digits === undefined ? "" : "num", textContent: cellText(column, run) }));
  }
  return row;
}

function drawHead() {
  const heads = COLUMNS.map((column) => {
    const head = element("th", { scope: "col", className: column.digits === undefined ? "" : "num" });
    head.append(element("button", { type: "button", textContent: column.title }));
    head.dataset.name = column.name;
    return head;
  });
  heads[0].classList.add("name");
  at("table").tHead.rows[0].replaceChildren(element("th", { scope: "col" }, element("span", { textContent: "Select" })), ...heads);
}

function drawChoices() {
  for (const key of data.filters) {
    const values = [...new Set(runs[key])].sort(compare);
    const select = element("select", { name: key }, element("option", { value: "", textContent: "all" }));
    select.append(...values.map((value) => element("option", { value: String(value), textContent: shownAs(key, value) })));
    at("choices").append(element("label", {}, TITLES[key], select));
  }
}

function readFilters() {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  state.filters = Object.fromEntries(given.map(([name, value]) => [name, value === "on" ? "1" : value.trim()]));
}

function writeFilters() {
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") field.checked = Boolean(state.filters[field.name]);
    else field.value = state.filters[field.name] ?? "";
    if (field.value !== (state.filters[field.name] ?? "") && field.type !== "checkbox") delete state.filters[field.name];
  }
}

const quoted = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

function save(name, rows) {
  const text = rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const texts = (row) => [...row.cells].map((cell) => cell.textContent.trim());
const saveRuns = () => save("bitq-runs.csv", [data.order, ...state.shown.map((run) => data.order.map((name) => runs[name][run]))]);
const savePublished = () => save("bitq-published.csv", [...at("published-table").rows].map(texts));

function saveClaims() {
  const heads = ["claim", "work", "source", "verdict", "statement", "quantity", "place", "limit", "found", "interval", "n", "verdict here", "note"];
  const shown = [...at("claim-list").children].filter((item) => !item.hidden);
  const rows = shown.flatMap((item) => {
    const { id, work, source, verdict } = item.dataset;
    const said = item.querySelector(".claim").textContent;
    return [...item.querySelectorAll("tbody tr")].map((row) => [id, work, source, verdict, said, ...texts(row)]);
  });
  save("bitq-claims.csv", [heads, ...rows]);
}
