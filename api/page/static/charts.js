// The charts page: two charts that are asked for again every second, and drawn
// so that one can see what moved.

const SONGS = 20;
const POLL_MS = 1000;
const TIMEOUT_MS = 10_000;
const LONGEST_BACKOFF_MS = 30_000;
const DEFAULT_COUNTRY = "US";

const WINDOWS = new Map([...document.querySelectorAll("#windows input")].map((input) => [input.value, input]));
const countryChoice = document.getElementById("country-choice");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const numbers = new Intl.NumberFormat("en");
const percents = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });

// ---------------------------------------------------------------------------
// Asking

// A Trouble is an answer that is no chart.
class Trouble extends Error {
  constructor(message, retryAfterMS = 0) {
    super(message);
    this.retryAfterMS = retryAfterMS;
  }
}

// A Poller asks for one chart again and again: every second, more seldom after
// errors, and not at all while nobody looks.
class Poller {
  #path;
  #listener;
  #etag = "";
  #failures = 0;
  #timer = 0;
  #request = null;

  // listener has chart(data, clockSkewMS), unchanged() and trouble(error, retryMS).
  constructor(listener) {
    this.#listener = listener;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : this.#ask()));
  }

  // follow starts over with another chart.
  follow(path) {
    this.#path = path;
    this.#etag = "";
    this.#failures = 0;
    this.#pause();
    if (!document.hidden) this.#ask();
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#request = null;
  }

  async #ask() {
    this.#pause();
    const request = (this.#request = new AbortController());
    const started = performance.now();
    let wait = POLL_MS;
    try {
      await this.#fetch(request.signal);
      this.#failures = 0;
      wait = Math.max(0, POLL_MS - (performance.now() - started));
    } catch (error) {
      if (request.signal.aborted) return; // paused, or another chart is wanted
      this.#failures++;
      wait = Math.max(error.retryAfterMS ?? 0, this.#backoff());
      this.#listener.trouble(error, wait);
    }
    if (request.signal.aborted) return;
    this.#timer = setTimeout(() => this.#ask(), wait);
  }

  async #fetch(stopped) {
    const headers = { Accept: "application/json" };
    if (this.#etag) headers["If-None-Match"] = this.#etag;
    const signal = AbortSignal.any([stopped, AbortSignal.timeout(TIMEOUT_MS)]);
    let response;
    try {
      response = await fetch(this.#path, { headers, signal, cache: "no-store" });
    } catch (error) {
      throw new Trouble(error.name === "TimeoutError" ? "The charts do not answer." : "The charts cannot be reached.");
    }
    if (response.status === 304) {
      this.#listener.unchanged();
      return;
    }
    if (!response.ok) throw await troubleOf(response);
    let chart;
    try {
      chart = await response.json();
    } catch {
      throw new Trouble("The answer was cut off.");
    }
    if (stopped.aborted) return; // an answer to an earlier question
    this.#etag = response.headers.get("ETag") ?? "";
    this.#listener.chart(chart, clockSkew(response));
  }

  // backoff doubles with every failure, and is spread so that many pages do
  // not come back at the same instant.
  #backoff() {
    const longest = Math.min(POLL_MS * 2 ** (this.#failures - 1), LONGEST_BACKOFF_MS);
    return longest * (0.75 + Math.random() / 4);
  }
}

// troubleOf says what the API said (RFC 9457), when it said something.
async function troubleOf(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  let said = "";
  try {
    const problem = await response.json();
    said = problem.detail || problem.title || "";
  } catch {
    // Not a problem document: the status has to do.
  }
  const message = said ? sentence(said) : `The charts answer with an error (${response.status}).`;
  return new Trouble(message, Number.isFinite(seconds) ? seconds * 1000 : 0);
}

function sentence(text) {
  const trimmed = text.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(capital) ? capital : capital + ".";
}

// clockSkew is how far the server's clock is ahead of ours, so that a wrong
// clock here does not make charts look old. The header has whole seconds only:
// small differences mean nothing.
function clockSkew(response) {
  const skew = Date.parse(response.headers.get("Date")) - Date.now();
  return Math.abs(skew) > 2000 ? skew : 0;
}

// ---------------------------------------------------------------------------
// Drawing

// A ChartView draws one chart into its section.
class ChartView {
  #section;
  #table;
  #body;
  #rows = new Map(); // songId -> row
  #asOf = NaN;
  #skew = 0;
  #stale = false;
  #drawn = false;

  constructor(section) {
    this.#section = section;
    this.#table = section.querySelector("table");
    this.#body = section.querySelector("tbody");
    this.#body.replaceChildren(...Array.from({ length: SONGS }, blankRow));
  }

  // expect says that another chart is on its way.
  expect(name) {
    this.#table.setAttribute("aria-busy", "true");
    this.#section.querySelector("caption").textContent = `Top ${SONGS} songs, ${name}`;
    this.#drawn = false;
  }

  chart(data, skew) {
    const items = data.items ?? [];
    this.#asOf = new Date(data.asOf).getTime();
    this.#skew = skew;
    this.#text(".total .count", numbers.format(data.totalPlays ?? 0));
    this.#text(".total .unit", data.totalPlays === 1 ? "play" : "plays");
    this.#draw(items, data.totalPlays ?? 0);
    this.#table.setAttribute("aria-busy", "false");
    this.#drawn = true;
    this.#stale = Boolean(data.stale);
    this.unchanged();
  }

  // unchanged says that what is drawn is still what is served.
  unchanged() {
    if (this.#stale) {
      this.#state("stale", "This chart is older than it should be: it shows the last count there is.");
    } else {
      this.#state("live", "");
    }
    this.tick();
  }

  trouble(error, retryMS) {
    const again = `Trying again in ${Math.max(1, Math.round(retryMS / 1000))} s.`;
    this.#state("broken", `${error.message} ${again}`);
    this.tick();
  }

  // tick shows how old the chart is.
  tick() {
    const age = Number.isNaN(this.#asOf) ? "" : `as of ${ago(Date.now() + this.#skew - this.#asOf)} ago`;
    const state = this.#section.dataset.state;
    this.#text(".age", !age ? (state === "broken" ? "no chart" : "loading") : state === "stale" ? `stale, ${age}` : age);
  }

  #state(state, notice) {
    this.#section.dataset.state = state;
    const element = this.#section.querySelector(".notice");
    if (element.textContent !== notice) element.textContent = notice; // else it would be read out again
    element.hidden = notice === "";
  }

  #text(selector, text) {
    const element = this.#section.querySelector(selector);
    if (element.textContent !== text) element.textContent = text;
  }

  #draw(items, total) {
    const before = this.#positions();
    const most = items[0]?.score ?? 0;
    const rows = new Map();
    for (const item of items) {
      const row = this.#rows.get(item.songId) ?? newRow();
      fillRow(row, item, total, most);
      rows.set(item.songId, row);
    }
    this.#rows = rows;
    this.#arrange(items.length > 0 ? [...rows.values()] : [nothingRow()]);
    if (!calm.matches) this.#slide(before);
  }

  // arrange puts the rows in order and touches only those that are elsewhere,
  // so that a selection or a reading position stays.
  #arrange(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.#body.rows]) {
      if (!wanted.has(row)) row.remove();
    }
    rows.forEach((row, i) => {
      if (this.#body.rows[i] !== row) this.#body.insertBefore(row, this.#body.rows[i] ?? null);
    });
  }

  #positions() {
    const top = this.#body.getBoundingClientRect().top;
    return new Map([...this.#rows.values()].map((row) => [row, row.getBoundingClientRect().top - top]));
  }

  // slide lets the rows travel from where they were to where they are now.
  #slide(before) {
    const top = this.#body.getBoundingClientRect().top;
    for (const row of this.#rows.values()) {
      row.getAnimations().forEach((animation) => animation.cancel());
    }
    for (const row of this.#rows.values()) {
      const was = before.get(row);
      if (was === undefined) {
        if (this.#drawn) row.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 500 });
        continue;
      }
      const distance = was - (row.getBoundingClientRect().top - top);
      if (Math.abs(distance) < 1) continue;
      row.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], {
        duration: 650,
        easing: "cubic-bezier(0.2, 0.8, 0.2, 1)",
      });
      if (this.#drawn) glow(row, distance > 0 ? "rose" : "fell");
    }
  }
}

function glow(row, how) {
  row.classList.remove("rose", "fell");
  void row.offsetWidth; // else the same glow would not start again
  row.classList.add(how);
}

const rowTemplate = document.getElementById("row");

function newRow() {
  return rowTemplate.content.firstElementChild.cloneNode(true);
}

function blankRow() {
  const row = newRow();
  row.className = "blank";
  row.setAttribute("aria-hidden", "true");
  for (const part of row.querySelectorAll(".title, .artist, .score")) part.textContent = "\u00a0";
  row.querySelector(".place").textContent = "\u00a0";
  return row;
}

function nothingRow() {
  const row = document.createElement("tr");
  row.className = "nothing";
  const cell = row.insertCell();
  cell.colSpan = 3;
  cell.textContent = "No plays in this window yet.";
  return row;
}

function fillRow(row, item, total, most) {
  const song = item.metadata ?? {};
  const put = (selector, text) => {
    const element = row.querySelector(selector);
    if (element.textContent !== text) element.textContent = text;
    return element;
  };
  put(".place", String(item.rank));
  put(".title", song.title || item.songId).title = song.title || item.songId;
  put(".artist", song.artist || "unknown artist").title = song.artist || "";
  put(".genres", (song.genres ?? []).slice(0, 2).join(", "));
  put(".score", numbers.format(item.score));
  put(".percent", total > 0 ? percents.format(item.score / total) : "");
  // Relative to the first: shares of all plays are too small to compare.
  row.querySelector(".fill").style.setProperty("--share", most > 0 ? item.score / most : 0);
  showMove(row.querySelector(".move"), item);
}

// showMove marks the change since the rank that the API calls previous.
function showMove(mark, item) {
  const up = (item.previousRank ?? 0) > 0 ? item.previousRank - item.rank : 0;
  const isNew = item.movement === "new";
  const way = isNew ? "new" : up > 0 ? "up" : up < 0 ? "down" : "";
  const sign = { up: "▲", down: "▼", new: "new", "": "" }[way];
  const text = way === "up" || way === "down" ? sign + Math.abs(up) : sign;
  if (mark.textContent === text) return;
  mark.dataset.way = way;
  mark.textContent = text;
  if (up === 0) mark.removeAttribute("aria-label");
  else mark.setAttribute("aria-label", `${up > 0 ? "up" : "down"} ${Math.abs(up)}`);
}

// ago writes an age: 3 s, 4 min, 2 h, 3 d.
function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

// ---------------------------------------------------------------------------
// Choosing

// nameCountries writes the countries' names in place of their codes, in order.
function nameCountries() {
  const names = new Intl.DisplayNames(["en"], { type: "region" });
  for (const option of countryChoice.options) option.textContent = names.of(option.value);
  const sorted = [...countryChoice.options].sort((a, b) => a.text.localeCompare(b.text, "en"));
  countryChoice.replaceChildren(...sorted);
}

const hasCountry = (code) => [...countryChoice.options].some((option) => option.value === code);

// readChoice takes the choice from the address; else the browser's own country.
function readChoice() {
  const query = new URLSearchParams(location.search);
  const country = query.get("country")?.toUpperCase();
  const own = new Intl.Locale(navigator.language).region;
  countryChoice.value = [country, own, DEFAULT_COUNTRY].find((code) => code && hasCountry(code));
  const input = WINDOWS.get(query.get("window"));
  if (input) input.checked = true;
}

const chosenWindow = () => [...WINDOWS.values()].find((input) => input.checked);

// keepChoice puts the choice into the address, to be shared and to come back to.
function keepChoice() {
  const query = new URLSearchParams(location.search);
  query.set("country", countryChoice.value);
  query.set("window", chosenWindow().value);
  history.replaceState(null, "", `?${query}`);
  const span = chosenWindow().labels[0].textContent.trim();
  document.title = `${countryChoice.selectedOptions[0].text} and worldwide, ${span} · Song charts`;
}

function chartPath(dim) {
  return "/v1/top?" + new URLSearchParams({ dim, window: chosenWindow().value, k: SONGS });
}

function start() {
  nameCountries();
  readChoice();
  const views = {};
  const pollers = {};
  for (const id of ["global", "country"]) {
    views[id] = new ChartView(document.getElementById(id));
    pollers[id] = new Poller(views[id]);
  }
  const followGlobal = () => {
    views.global.expect("worldwide");
    pollers.global.follow(chartPath("global"));
  };
  const followCountry = () => {
    views.country.expect(countryChoice.selectedOptions[0].text);
    pollers.country.follow(chartPath(`region:${countryChoice.value}`));
  };
  countryChoice.addEventListener("change", () => {
    keepChoice();
    followCountry();
  });
  document.getElementById("windows").addEventListener("change", () => {
    keepChoice();
    followGlobal();
    followCountry();
  });
  setInterval(() => {
    if (!document.hidden) Object.values(views).forEach((view) => view.tick());
  }, 1000);
  keepChoice();
  followGlobal();
  followCountry();
}

start();
