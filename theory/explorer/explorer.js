"use strict";
// Looks up and draws. No cost, split or minimum is computed here: every number is read from the embedded tables.

const TABLES = JSON.parse(document.getElementById("tables").textContent);
const LOOKS = { // colour, dashes; a policy that is not listed is drawn in grey
  hsm: ["--advanced", "7 2"],
  ism: ["--internal", "2 2"],
  msm: ["--ink", ""],
  msm_shared: ["--grey", ""],
  msm_plus: ["--green", "9 2 2 2"],
  chen_sqrt: ["--hidden", "5 3"],
  chen_sqrt_shared: ["--hidden", "1 2"],
  chen_recursive: ["--purple", "10 3"],
};
const STRATEGIES = TABLES.strategies.map(([key, name, about, drawn]) => {
  const [colour, dash] = LOOKS[key] ?? ["--grey", "3 3"];
  return { key, name, about, drawn, colour, dash };
});
const HIDDEN = 1, RELEASE = 3; // of membptt_theory.recurrences.Decision, the two that differ from an internal state
const OWNED = 0, KEPT = 1;

const LIMITS = { steps: [1, TABLES.steps], slots: [1, TABLES.slots], alpha: [TABLES.alphas[0], TABLES.alphas.at(-1)] };

const state = { steps: 12, slots: 6, alpha: 3, policy: "msm_plus" };
const decoded = new Map();

// ---- looking up ----

function numbers(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, index) => view.getUint16(2 * index, true));
}

function once(key, make) {
  if (!decoded.has(key)) decoded.set(key, make());
  return decoded.get(key);
}

function table(policy, alpha) {
  const key = policy in TABLES.tables ? policy : `${policy}/${alpha}`;
  return once(key, () => {
    const packed = TABLES.tables[key];
    return { ...packed, costs: numbers(packed.costs), moves: numbers(packed.moves) };
  });
}

function entry(mode, slots, steps) {
  return (mode * (TABLES.slots + 1) + slots) * (TABLES.steps + 1) + steps;
}

// How many slots of a policy's table take the memory of `slots` hidden states: ISM's slots hold internal states.
function own(policy, slots, alpha) {
  const internal = !policy.startsWith("chen") && table(policy, alpha).sizes[0] === null;
  return internal ? Math.floor(slots / alpha) : slots;
}

// Forwards, or null where nothing fits.
function cost(policy, steps, slots, alpha) {
  const room = own(policy, slots, alpha);
  if (room < 1) return null;
  if (policy.startsWith("chen")) {
    const key = policy in TABLES.chen ? policy : `${policy}/${alpha}`;
    return once(key, () => numbers(TABLES.chen[key]))[entry(0, room, steps)] || null;
  }
  return table(policy, alpha).costs[entry(OWNED, room, steps)];
}

// ---- walking decisions and splits: membptt_theory.streams, line by line ----

function* schedule(table, steps, slots) {
  const pending = [];
  const roomOf = (mode, decision, y, length) =>
    table.cuts[mode].find(
      ([kind, first, last]) => kind === decision && y >= (first || length) && y <= (last === null ? first || length : length - last),
    )[3];
  let start = 0, owned = table.sizes[0] !== null, there = true;
  for (;;) {
    if (!there) yield ["Restore", start];
    const mode = owned || table.cuts.length === 1 ? OWNED : KEPT;
    const move = table.moves[entry(mode, slots, steps)];
    const decision = move >> 8, y = steps > 1 ? move & 255 : 1;
    there = false;
    if (y === steps) {
      if (steps > 1) yield ["Advance", start, start + steps - 1];
      yield ["Record", start + steps - 1];
      yield ["Backpropagate", start + steps - 1];
      steps -= 1;
      if (steps) continue;
      if (owned) yield ["DropHidden", start];
    } else if (decision === HIDDEN) {
      yield ["Advance", start, start + y];
      yield ["StoreHidden", start + y];
      pending.push([start, y, slots, owned]);
      [start, steps, slots, owned, there] = [start + y, steps - y, slots - 1, true, true];
      continue;
    } else {
      if (y > 1) yield ["Advance", start, start + y - 1];
      const room = roomOf(mode, decision, y, steps);
      if (decision === RELEASE) {
        yield ["DropHidden", start];
        owned = false;
      }
      yield ["Record", start + y - 1];
      yield ["StoreInternal", start + y - 1];
      pending.push([start, y - 1, slots, owned], ["Backpropagate", start + y - 1], ["LoadInternal", start + y - 1]);
      [start, steps, slots, owned, there] = [start + y, steps - y, slots - room, false, true];
      continue;
    }
    let more = false;
    while (pending.length) {
      const part = pending.pop();
      if (typeof part[0] === "string") {
        yield part;
        continue;
      }
      [start, steps, slots, owned] = part;
      if (steps) {
        more = true;
        break;
      }
      if (owned) yield ["DropHidden", start];
    }
    if (!more) return;
  }
}

// ---- laying out in time: membptt_theory.timeline ----

function timeline(actions, sizes) {
  const [hiddenSize, internalSize, knownSize] = sizes;
  const stored = { hidden: new Map(), internal: new Map() };
  const cells = [], memory = [], hidden = [], internal = [];
  if (hiddenSize !== null) stored.hidden.set(0, 0);
  const known = (step) => stored.hidden.has(step) || stored.internal.has(step - 1);
  const used = () => {
    let total = (hiddenSize || 0) * stored.hidden.size;
    for (const step of stored.internal.keys()) total += known(step) && knownSize ? knownSize : internalSize;
    return total;
  };
  for (const [name, place, stop] of actions) {
    const now = cells.length;
    if (name === "Advance") for (let step = place; step < stop; step++) cells.push([step, "advanced"]);
    else if (name === "Record") cells.push([place, "recorded"]);
    else if (name === "Backpropagate") cells.push([place, "backward"]);
    else if (name === "StoreHidden") stored.hidden.set(place, now);
    else if (name === "StoreInternal") stored.internal.set(place, now);
    else if (name === "DropHidden") {
      hidden.push([place, stored.hidden.get(place), now]);
      stored.hidden.delete(place);
    } else if (name === "LoadInternal") {
      internal.push([place, stored.internal.get(place), now]);
      stored.internal.delete(place);
    }
    if (cells.length > now) {
      const level = used();
      while (memory.length < cells.length) memory.push(level);
    }
  }
  return { cells, memory, hidden, internal };
}

// ---- drawing ----

const round = (value) => Math.round(value * 100) / 100;

function ticks(top, room) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => top / size <= room) || 2000;
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, index) => index * step);
}

function drawSchedule(layout, slots, about) {
  const place = document.getElementById("schedule");
  const width = Math.max(place.clientWidth, 260), rows = layout.cells.length;
  const height = Math.min(Math.max(14 * rows, 200), 620);
  const [left, top, bottom, gap] = [46, 8, 44, 26];
  const side = Math.max(70, Math.round(width * 0.2));
  const plot = width - left - gap - side - 8;
  const across = plot / state.steps, down = height / rows, dense = down < 5 || across < 5;
  const x = (position) => round(left + position * across), y = (time) => round(top + time * down);
  const inset = dense ? 0 : 0.12;
  const boxes = { advanced: "", recorded: "", backward: "" };
  layout.cells.forEach(([step, kind], time) => {
    const [w, h] = [round(across * (1 - 2 * inset)), round(down * (dense ? 1 : 0.8))];
    boxes[kind] += `M${x(step + inset)} ${y(time + (dense ? 0 : 0.1))}h${w}v${h}h${-w}z`;
  });
  const lines = (held, shift) => held.map(([at, since, until]) => `M${x(at + shift)} ${y(since)}V${y(until)}`).join("");
  const thick = dense ? 1.4 : 3;
  const base = width - side - 8, across2 = side / slots;
  let area = `M${base} ${y(0)}`;
  layout.memory.forEach((level, time) => (area += `H${round(base + level * across2)}V${y(time + 1)}`));
  area += `H${base}z`;
  const peak = Math.max(...layout.memory);
  const atTimes = ticks(rows, Math.max(3, height / 45)).map(
    (time) => `<path class="rule" d="M${left - 4} ${y(time)}H${left}"/><text x="${left - 7}" y="${y(time) + 4}" text-anchor="end">${time}</text>`,
  );
  const atSteps = ticks(state.steps, plot / 34).map(
    (step) => `<path class="rule" d="M${x(step)} ${y(rows)}v4"/><text x="${x(step)}" y="${y(rows) + 17}" text-anchor="middle">${step}</text>`,
  );
  const atSlots = ticks(slots, side / 26).map(
    (slot) => `<path class="rule" d="M${round(base + slot * across2)} ${y(rows)}v4"/><text x="${round(base + slot * across2)}" y="${y(rows) + 17}" text-anchor="middle">${slot}</text>`,
  );
  place.innerHTML = `<svg viewBox="0 0 ${width} ${height + top + bottom}" height="${height + top + bottom}" role="img" aria-label="${about}" class="${dense ? "dense" : ""}">
<path class="rule" d="M${left} ${top}V${y(rows)}H${x(state.steps)}M${base} ${top}V${y(rows)}H${base + side}"/>
${atTimes.join("")}${atSteps.join("")}${atSlots.join("")}
<path class="internal" data-kind="internal" stroke-width="${thick}" d="${lines(layout.internal, 0.5)}"/>
${Object.entries(boxes).map(([kind, d]) => `<path class="${kind}" data-kind="${kind}" d="${d}"/>`).join("")}
<path class="hidden" data-kind="hidden" stroke-width="${thick}" d="${lines(layout.hidden, 0)}"/>
<path class="memory" data-kind="memory" d="${area}"/>
<path class="limit" data-kind="peak" d="M${round(base + peak * across2)} ${top}V${y(rows)}"/>
<text x="${left + plot / 2}" y="${y(rows) + 36}" text-anchor="middle">position</text>
<text x="${base + side / 2}" y="${y(rows) + 36}" text-anchor="middle">slots in use</text>
<text x="12" y="${top + height / 2}" text-anchor="middle" transform="rotate(-90 12 ${top + height / 2})">time: forwards and backwards</text>
</svg>`;
}

function drawCost() {
  const place = document.getElementById("cost");
  const width = Math.max(place.clientWidth, 260), height = 250;
  const [left, top, right, bottom] = [46, 10, 10, 44];
  const curves = STRATEGIES.map(({ key }) =>
    Array.from({ length: TABLES.slots }, (_, index) => cost(key, state.steps, index + 1, state.alpha)),
  );
  const highest = Math.max(2, ...curves.flat().filter((value) => value !== null).map((value) => value / state.steps));
  const x = (slots) => round(left + ((slots - 1) / (TABLES.slots - 1)) * (width - left - right));
  const y = (perStep) => round(top + height - (Math.log(perStep) / Math.log(highest)) * height);
  const levels = [1, 1.5, 2, 3, 5, 10, 20, 30].filter((level) => level <= highest);
  let text = "";
  for (const level of levels)
    text += `<path class="rule" d="M${left} ${y(level)}H${width - right}"/><text x="${left - 7}" y="${y(level) + 4}" text-anchor="end">${level}</text>`;
  for (const slots of [1, 8, 16, 24, 32])
    text += `<text x="${x(slots)}" y="${top + height + 17}" text-anchor="middle">${slots}</text>`;
  text += `<path class="limit" d="M${x(state.slots)} ${top}V${top + height}"/>`;
  const order = STRATEGIES.map((_, index) => index).sort((a, b) => (STRATEGIES[a].key === state.policy) - (STRATEGIES[b].key === state.policy));
  for (const index of order) {
    const { key, colour, dash } = STRATEGIES[index];
    const chosen = key === state.policy ? " chosen" : "";
    const points = curves[index].map((value, at) => (value === null ? null : `${x(at + 1)} ${y(value / state.steps)}`));
    const d = points.map((point, at) => (point === null ? "" : `${at && points[at - 1] !== null ? "L" : "M"}${point}`)).join("");
    text += `<path class="line${chosen}" data-strategy="${key}" d="${d}" style="stroke: var(${colour})" stroke-dasharray="${dash}"/>`;
  }
  const here = cost(state.policy, state.steps, state.slots, state.alpha);
  if (here !== null) text += `<circle class="mark" cx="${x(state.slots)}" cy="${y(here / state.steps)}" r="6" style="fill: var(${strategy().colour})"/>`;
  text += `<text x="${(left + width - right) / 2}" y="${top + height + 37}" text-anchor="middle">slots m [hidden states]</text>`;
  text += `<text x="12" y="${top + height / 2}" text-anchor="middle" transform="rotate(-90 12 ${top + height / 2})">forwards per step</text>`;
  place.innerHTML = `<svg class="clickable" viewBox="0 0 ${width} ${top + height + bottom}" height="${top + height + bottom}" role="img" aria-label="Forwards per step against slots, for ${state.steps} steps; the numbers at ${state.slots} slots are in the table below">${text}</svg>`;
  place.firstChild.addEventListener("click", (event) => {
    const box = place.firstChild.getBoundingClientRect();
    const share = ((event.clientX - box.left) * (width / box.width) - left) / (width - left - right);
    change({ slots: Math.round(1 + share * (TABLES.slots - 1)) });
  });
}

function listAlternatives() {
  const rows = STRATEGIES.map((option) => [option, cost(option.key, state.steps, state.slots, state.alpha)]);
  const least = Math.min(...rows.map(([, value]) => value ?? Infinity));
  document.getElementById("alternatives-title").textContent =
    `${state.steps} steps in the memory of ${state.slots} hidden states, α = ${state.alpha}`;
  document.getElementById("alternatives").innerHTML = rows
    .map(([{ key, name, about, colour, dash }, value]) => {
      const swatch = `<svg width="28" height="8" aria-hidden="true"><path d="M0 4H28" stroke-width="3" style="stroke: var(${colour})" stroke-dasharray="${dash}"/></svg>`;
      const cells =
        value === null
          ? `<td colspan="3">does not fit</td>`
          : `<td class="${value === least ? "least" : ""}">${value}</td><td>${(value / state.steps).toFixed(3)}</td><td>${(value / least).toFixed(2)}</td>`;
      return `<tr data-strategy="${key}" class="${key === state.policy ? "chosen" : ""}"><th scope="row" title="${about}">${swatch}${name}</th>${cells}</tr>`;
    })
    .join("");
}

function strategy() {
  return STRATEGIES.find(({ key }) => key === state.policy);
}

// ---- the page ----

function show() {
  for (const name of ["steps", "slots", "alpha"])
    for (const id of [name, `${name}-number`]) {
      const input = document.getElementById(id);
      if (input !== document.activeElement || input.type === "range") input.value = state[name];
    }
  document.querySelector(`#policies input[value=${state.policy}]`).checked = true;
  const { steps, slots, alpha, policy } = state;
  const room = own(policy, slots, alpha);
  const summary = document.getElementById("summary");
  if (room < 1) {
    summary.innerHTML = `<b>ISM does not fit</b>: an internal state takes ${alpha} slots, there are ${slots}. Give it more slots, or choose another policy.`;
    document.getElementById("schedule").innerHTML = `<p class="hint">Nothing to draw.</p>`;
  } else {
    const chosen = table(policy, alpha);
    const sizes = chosen.sizes[0] === null ? [null, alpha, null] : chosen.sizes;
    const layout = timeline(schedule(chosen, steps, room), sizes);
    const forwards = cost(policy, steps, slots, alpha), peak = Math.max(...layout.memory);
    summary.innerHTML =
      `${strategy().name} (${strategy().about}): <b id="forwards">${forwards}</b> forwards for ${steps} steps, <b id="per-step">${(forwards / steps).toFixed(3)}</b> per step; ` +
      `<b id="peak">${peak}</b> of ${slots} slots in use at most` +
      `<small>recurrence ${chosen.equations}; table sha256 <span id="digest">${chosen.digest}</span></small>`;
    drawSchedule(layout, slots, `Schedule of ${strategy().name}, ${steps} steps in ${slots} slots: ${forwards} forwards, ${peak} slots in use at most. Position to the right, execution downward; the slots in use beside it.`);
  }
  drawCost();
  listAlternatives();
}

function change(wanted, { remember = true } = {}) {
  for (const [name, [low, high]] of Object.entries(LIMITS)) {
    const value = Math.round(Number(wanted[name] ?? state[name]));
    if (Number.isFinite(value)) state[name] = Math.min(Math.max(value, low), high);
  }
  if (STRATEGIES.some(({ key, drawn }) => drawn && key === wanted.policy)) state.policy = wanted.policy;
  if (remember) history.replaceState(null, "", `#${new URLSearchParams(state)}`);
  show();
}

function start() {
  for (const [name, [low, high]] of Object.entries(LIMITS))
    for (const id of [name, `${name}-number`]) {
      const input = document.getElementById(id);
      [input.min, input.max] = [low, high];
      input.addEventListener("input", () => input.value !== "" && change({ [name]: input.value }));
      input.addEventListener("change", () => (input.value = state[name]));
    }
  document.getElementById("policies").insertAdjacentHTML(
    "beforeend",
    STRATEGIES.filter(({ drawn }) => drawn)
      .map(({ key, name, about }) => `<label title="${about}"><input type="radio" name="policy" value="${key}"> ${name}</label>`)
      .join(""),
  );
  document.getElementById("policies").addEventListener("change", (event) => change({ policy: event.target.value }));
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("provenance").textContent =
    `The page holds ${Object.keys(TABLES.tables).length} tables: t ≤ ${TABLES.steps}, m ≤ ${TABLES.slots}, α = ${TABLES.alphas[0]} … ${TABLES.alphas.at(-1)}. It asks no network.`;
  const fromAddress = () => change(Object.fromEntries(new URLSearchParams(location.hash.slice(1))), { remember: false });
  addEventListener("hashchange", fromAddress);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (width !== innerWidth) show();
    width = innerWidth;
  });
  fromAddress();
}

start();
