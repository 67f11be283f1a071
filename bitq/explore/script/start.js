// What happens on which event.
function changed() {
  refilter();
  drawPlots();
  for (const details of document.querySelectorAll("details[data-plot]")) drawFallback(details);
  writeAddress();
}

function refilterSoon() {
  clearTimeout(refilterSoon.timer);
  refilterSoon.timer = setTimeout(() => { readFilters(); state.page = 0; changed(); }, 120);
}

function turn(pages) {
  state.page += pages;
  drawTable();
}

function clickTable(event) {
  const head = event.target.closest("th[data-name]"), key = event.target.dataset.key ?? "";
  if (head) {
    state.sort = state.sort === head.dataset.name ? `-${head.dataset.name}` : head.dataset.name;
    state.page = 0;
    changed();
  } else if (key.startsWith("open")) openRun(Number(key.slice(4)));
  else if (key.startsWith("tick")) {
    const run = Number(key.slice(4));
    if (event.target.checked) state.ticked.add(run);
    else state.ticked.delete(run);
    changed();
  }
}

function showAddress() {
  if (!readAddress()) return;
  filterClaims();
  drawRun();
  changed();
}

drawHead();
drawChoices();
at("table").addEventListener("click", clickTable);
form.addEventListener("input", refilterSoon);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", refilterSoon);
claimForm.addEventListener("input", () => { filterClaims(); writeAddress(); });
claimForm.addEventListener("submit", (event) => event.preventDefault());
at("previous").addEventListener("click", () => turn(-1));
at("next").addEventListener("click", () => turn(1));
at("unselect").addEventListener("click", () => { state.ticked = new Set(); changed(); });
at("download").addEventListener("click", saveRuns);
at("download-claims").addEventListener("click", saveClaims);
at("download-published").addEventListener("click", savePublished);
at("metric").addEventListener("change", () => { drawCurves(); drawFallback(document.querySelector('[data-plot="curves"]')); });
at("layer").addEventListener("change", () => { drawLevels(); drawFallback(document.querySelector('[data-plot="levels"]')); });
for (const details of document.querySelectorAll("details[data-plot]")) details.addEventListener("toggle", () => drawFallback(details));
addEventListener("hashchange", showAddress);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { restyle(); drawPlots(); });

readAddress();
filterClaims();
drawRun();
refilter();
// The table is there first; the plots follow at once.
requestAnimationFrame(() => setTimeout(async () => {
  await embedPlots();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}));
