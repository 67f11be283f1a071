// The address holds filters, order, selection and open run, and whose results they were: what a citation needs.
const SHORT = 8; // digits of a hash
const MOST = 100; // runs whose selection an address can hold
const shortHash = (run) => runs.hash[run].slice(0, SHORT);
const claimForm = at("claim-filters");
let written_address = "";

function addressOf() {
  const words = new URLSearchParams(state.filters);
  if (state.sort) words.set("sort", state.sort);
  if (state.open !== null) words.set("run", shortHash(state.open));
  if (state.ticked.size && state.ticked.size <= MOST) words.set("selected", [...state.ticked].map(shortHash).join("."));
  for (const field of claimForm.querySelectorAll("select")) if (field.value) words.set(field.name, field.value);
  if ([...words].length) words.set("results", data.root.slice(0, 12));
  return words.toString();
}

function writeAddress() {
  const address = addressOf();
  if (address === written_address) return;
  written_address = address;
  history.replaceState(null, "", address ? `#${address}` : location.href.split("#")[0]);
}

// An anchor like #claims has no equals sign and changes no filter.
function readAddress() {
  const text = location.hash.slice(1);
  if (text && !text.includes("=")) return false;
  written_address = text;
  const words = new URLSearchParams(text), byHash = new Map(EVERY.map((run) => [shortHash(run), run]));
  const take = (name) => { const value = words.get(name) ?? ""; words.delete(name); return value; };
  const sort = take("sort"), results = take("results"), run = take("run");
  state.sort = runs[sort.replace("-", "")] ? sort : "";
  state.open = byHash.get(run.slice(0, SHORT)) ?? null;
  state.ticked = new Set(take("selected").split(".").map((hash) => byHash.get(hash)).filter((found) => found !== undefined));
  for (const field of claimForm.querySelectorAll("select")) field.value = take(field.name);
  state.filters = Object.fromEntries([...words].filter(([name, value]) => form.elements[name] && value));
  writeFilters();
  state.page = 0;
  at("foreign").hidden = !results || data.root.startsWith(results);
  at("foreign").textContent = at("foreign").hidden ? "" : `This address was made from other results (${results}); numbers may differ.`;
  return true;
}

function filterClaims() {
  const { work, verdict } = Object.fromEntries(new FormData(claimForm));
  let count = 0;
  for (const item of at("claim-list").children) {
    item.hidden = Boolean((work && item.dataset.work !== work) || (verdict && item.dataset.verdict !== verdict));
    count += !item.hidden;
  }
  at("claim-count").textContent = `${count} of ${at("claim-list").children.length} claims shown.`;
}
