"""The explorer: one page without network whose numbers are the tables' and whose drawings are the streams'."""

import base64
import importlib.util
import json
import re
from dataclasses import astuple
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost, sqrt_schedule
from membptt_theory.machine import meter
from membptt_theory.policies import POLICIES, sized
from membptt_theory.recurrences import KEPT, OWNED
from membptt_theory.timeline import Kind, timeline
from tests.browser import browser

ROOT = Path(__file__).parents[1]
DRAWN = {Kind.ADVANCED: "advanced", Kind.RECORDED: "recorded", Kind.BACK: "backward"}

spec = importlib.util.spec_from_file_location("explorer_build", ROOT / "theory/explorer/build.py")
explorer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(explorer)
TABLES = explorer.policies()
# Of every policy of the registry, the page's key and title; that with shared storage is one more.
TITLES = {
    name + "_shared" * shared: POLICIES[name].title + ", shared" * shared
    for name, sizes in sized(2)
    for shared in ["internal_known" in sizes]
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "index.html"
    assert explorer.main(["--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def chromium():
    with browser() as session:
        yield session


@pytest.fixture
def opened(chromium, page):
    """Return the browser with the page in its first state, as on a desk."""
    chromium.resize(1280, 1000)
    chromium.open(page.as_uri())
    yield chromium
    assert chromium.errors == []


def text(chromium, selector):
    return chromium.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def shown(chromium):
    """Return what the page says and draws: state, numbers, how many of each thing are in the picture."""
    return chromium.evaluate(
        """({...state, forwards: +document.getElementById("forwards").textContent,
             perStep: document.getElementById("per-step").textContent,
             peak: +document.getElementById("peak").textContent,
             digest: document.getElementById("digest").textContent,
             drawn: Object.fromEntries([...document.querySelectorAll("#schedule [data-kind]")].map(
                 (path) => [path.dataset.kind, (path.getAttribute("d").match(/M/g) || []).length])),
             listed: Object.fromEntries([...document.querySelectorAll("#alternatives tr")].map(
                 (row) => [row.dataset.strategy, row.cells[1].textContent]))})"""
    )


def table_of(policy, alpha):
    return TABLES[policy if policy in TABLES else f"{policy}/{alpha}"]


def agree(state):
    """Compare everything that the page shows with the library."""
    steps, alpha, policy = state["steps"], state["alpha"], state["policy"]
    slots = state["slots"] // alpha if policy == "ism" else state["slots"]
    table = table_of(policy, alpha)
    unit = alpha if policy == "ism" else 1
    drawn = timeline(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    report = meter(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    assert state["forwards"] == table.cost(steps, slots) == report.forwards
    assert state["perStep"] == f"{report.forwards / steps:.3f}"
    assert state["peak"] == report.peak * unit
    assert state["digest"] == table.digest
    boxes = {name: sum(cell.kind is kind for cell in drawn.cells) for kind, name in DRAWN.items()}
    lines = {"hidden": len(drawn.hidden), "internal": len(drawn.internal), "memory": 1, "peak": 1}
    assert state["drawn"] == {**boxes, **lines}
    for name, value in state["listed"].items():
        expected = alternative(name, steps, state["slots"], alpha)
        assert value == ("does not fit" if expected is None else str(expected)), name


def alternative(name, steps, slots, alpha):
    """Return the forwards of any strategy in the memory of `slots` hidden states, or None where it does not fit."""
    if name == "chen_recursive":
        costs = [recursive_cost(steps, parts) for parts in range(2, max(3, steps + 1))]
        return min((cost.forwards for cost in costs if cost.slots <= slots), default=None)
    if name.startswith("chen_sqrt"):
        sizes = Sizes(1, alpha, alpha - 1 if name.endswith("shared") else None)
        segment = best_segment(steps, sizes, slots=slots)
        if segment is None:
            return None
        report = meter(sqrt_schedule(steps, segment), steps=steps, sizes=sizes)  # executed, not only counted
        assert (report.forwards, report.peak) == sqrt_cost(steps, segment, sizes)
        return report.forwards
    own = slots // alpha if name == "ism" else slots
    return table_of(name, alpha).cost(steps, own) if own else None


# ---- without a browser ----


def test_the_page_is_one_small_file_that_names_nothing_outside_itself(page):
    whole = page.read_text()
    assert len(whole.encode()) < 10**6
    assert "@@" not in whole
    assert "http:" not in whole
    assert "https:" not in whole
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", whole) == ["data:,"]
    assert "default-src 'none'" in whole
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\s*\(", whole)
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_the_same_sources_build_the_same_page(page):
    assert explorer.page() == page.read_text()


def test_the_output_is_ignored_by_git():
    folder = explorer.OUT.parent.relative_to(ROOT).as_posix()
    assert f"{folder}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_embedded_tables_are_the_tables():
    content = explorer.embedded()
    assert set(content["tables"]) == set(TABLES)
    for key, table in TABLES.items():
        packed = content["tables"][key]
        costs, moves = (
            np.frombuffer(base64.b64decode(packed[name]), dtype="<u2").reshape(table.costs.shape)
            for name in ("costs", "moves")
        )
        assert packed["digest"] == table.digest
        assert (costs[:, 1:] == table.costs[:, 1:]).all()
        assert (moves // 256 == table.decisions).all()
        assert (moves % 256 == table.splits).all()


def test_what_does_not_fit_in_a_number_is_refused():
    for number in (-1, 2**16):
        with pytest.raises(ValueError, match="does not fit in 16 bits"):
            explorer._pack16(np.array([0, number]))


def test_every_input_of_the_template_has_a_label():
    class Inputs(HTMLParser):
        named, ids = set(), []

        def handle_starttag(self, tag, attributes):
            attributes = dict(attributes)
            if tag == "label":
                self.named.add(attributes.get("for"))
            if tag == "input":
                self.ids.append((attributes["id"], "aria-label" in attributes))

    inputs = Inputs()
    inputs.feed((ROOT / "theory/explorer/template.html").read_text())
    assert len(inputs.ids) == 6
    assert all(labelled or name in inputs.named for name, labelled in inputs.ids)


# ---- in a browser ----

STREAMS = """
(key) => {
  const [policy, alpha] = key.split("/");
  const rows = [];
  for (let steps = 1; steps <= TABLES.steps; steps++) {
    let row = "";
    for (let slots = 1; slots <= TABLES.slots; slots++) {
      for (const [name, ...places] of schedule(table(policy, alpha), steps, slots))
        row += name + places.join(",") + " ";
      row += "\\n";
    }
    rows.push(row);
  }
  return rows;
}
"""


def streams(table):
    """Return the text of every stream of a table, one row per length."""
    words = {}

    def word(action):
        text = words.get(action)
        if text is None:
            text = words[action] = type(action).__name__ + ",".join(map(str, astuple(action))) + " "
        return text

    for steps in range(1, table.steps + 1):
        yield "".join("".join(map(word, table.schedule(steps, slots))) + "\n" for slots in range(1, table.slots + 1))


@pytest.mark.parametrize("key", TABLES)
def test_the_page_walks_every_stream_that_the_theory_yields(opened, key):
    walked = opened.evaluate(f"({STREAMS})({json.dumps(key)})")
    for steps, (ours, theirs) in enumerate(zip(streams(TABLES[key]), walked, strict=True), 1):
        assert ours == theirs, f"{key}, t = {steps}"


def test_a_page_with_one_split_changed_walks_another_stream(opened):
    """The comparison above can fail: one decision of one table, altered."""
    table = TABLES["msm/3"]
    place = f"table('msm', 3).moves[entry({OWNED}, 4, 9)]"
    opened.evaluate(f"{place} = ({place} & ~255) | (({place} & 255) === 1 ? 2 : 1)")
    walked = opened.evaluate(f"({STREAMS})('msm/3')")
    assert [ours == theirs for ours, theirs in zip(streams(table), walked, strict=True)][:9] == [True] * 8 + [False]


def test_the_page_looks_every_cost_up(opened):
    strategies = opened.evaluate(
        """STRATEGIES.map(({key}) => [key, TABLES.alphas.map((alpha) =>
            Array.from({length: TABLES.slots}, (_, m) =>
                Array.from({length: TABLES.steps}, (_, t) => cost(key, t + 1, m + 1, alpha))))])"""
    )
    assert [name for name, _ in strategies] == [
        *TITLES,
        *("chen_sqrt", "chen_sqrt_shared", "chen_recursive"),
    ]
    for name, costs in strategies[: len(TITLES)]:
        for alpha, rows in zip(explorer.ALPHAS, costs, strict=True):
            for slots, row in enumerate(rows, 1):
                own = slots // alpha if name == "ism" else slots
                expected = table_of(name, alpha).costs[OWNED, own, 1:].tolist() if own else [None] * explorer.STEPS
                assert row == expected, (name, alpha, slots)
    for name, costs in strategies[len(TITLES) :]:
        for alpha in (2, 5, 8):
            for slots in range(1, explorer.SLOTS + 1, 3):
                for steps in (1, 2, 3, 7, 20, 64):
                    expected = alternative(name, steps, slots, alpha)
                    assert costs[alpha - 2][slots - 1][steps - 1] == expected, (name, alpha, slots, steps)


@pytest.mark.parametrize("key", ["hsm", "ism", "msm/3", "msm_shared/3", "msm_plus/3"])
def test_the_page_lays_every_stream_out_in_time_as_the_theory_does(opened, key):
    table = TABLES[key]
    policy, _, alpha = key.partition("/")
    rows = opened.evaluate(
        f"""Array.from({{length: 20}}, (_, t) => Array.from({{length: 9}}, (_, m) => {{
            const source = table({json.dumps(policy)}, {alpha or 2});
            return timeline(schedule(source, t + 1, m + 1), source.sizes);
        }}))"""
    )
    for steps, row in enumerate(rows, 1):
        for slots, drawn in enumerate(row, 1):
            expected = timeline(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
            assert drawn["cells"] == [[cell.step, DRAWN[cell.kind]] for cell in expected.cells]
            assert drawn["memory"] == list(expected.memory)
            assert drawn["hidden"] == [list(held) for held in expected.hidden]
            assert drawn["internal"] == [list(held) for held in expected.internal]
            assert len(expected.cells) - steps == table.cost(steps, slots)


def test_the_first_state_is_drawn_and_its_numbers_are_the_tables(opened):
    state = shown(opened)
    assert (state["steps"], state["slots"], state["alpha"], state["policy"]) == (12, 6, 3, "msm_plus")
    agree(state)


@pytest.mark.parametrize("name", ["steps", "slots", "alpha"])
def test_dragging_a_slider_changes_the_drawing_and_the_numbers_are_the_tables(opened, name):
    before = shown(opened)
    picture = text(opened, "#summary"), opened.evaluate("document.getElementById('schedule').innerHTML")
    first = (before[name] - int(opened.evaluate(f"document.getElementById('{name}').min"))) / (
        int(opened.evaluate(f"document.getElementById('{name}').max - document.getElementById('{name}').min"))
    )
    opened.drag(f"#{name}", 0.03 + 0.94 * first, 0.6)
    after = shown(opened)
    assert after[name] > before[name]
    assert opened.evaluate(f"+document.getElementById('{name}-number').value") == after[name]
    assert opened.evaluate("document.getElementById('schedule').innerHTML") != picture[1]
    assert {key for key in ("steps", "slots", "alpha") if after[key] != before[key]} == {name}
    agree(after)


@pytest.mark.parametrize("policy", ["hsm", "ism", "msm", "msm_shared"])
def test_clicking_a_policy_draws_it(opened, policy):
    opened.click(f"#policies label:has([value={policy}])")
    state = shown(opened)
    assert state["policy"] == policy
    agree(state)


def test_clicking_the_chart_chooses_the_slots(opened):
    opened.click("#cost svg", 0.8)
    state = shown(opened)
    assert state["slots"] > 20
    agree(state)


def test_the_arrow_keys_move_a_slider(opened):
    opened.evaluate("document.getElementById('slots').focus()")
    opened.press("ArrowRight", 39)
    state = shown(opened)
    assert state["slots"] == 7
    agree(state)


@pytest.mark.parametrize(("typed", "taken"), [("30", 30), ("0", 1), ("999", 64), ("", 12), ("7.6", 8)])
def test_a_typed_number_is_taken_or_brought_into_the_range(opened, typed, taken):
    opened.evaluate(
        f"""(() => {{ const input = document.getElementById("steps-number"); input.focus(); input.value = "{typed}";
            for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, {{bubbles: true}})); }})()"""
    )
    state = shown(opened)
    assert (state["steps"], opened.evaluate("+document.getElementById('steps-number').value")) == (taken, taken)
    agree(state)


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("steps=64&slots=1&alpha=8&policy=hsm", (64, 1, 8, "hsm")),
        ("steps=1&slots=32&alpha=2&policy=ism", (1, 32, 2, "ism")),
        ("steps=-4&slots=1e9&alpha=what&policy=<img>", (1, 32, 3, "msm_plus")),
        ("policy=chen_sqrt&steps=20", (20, 6, 3, "msm_plus")),
    ],
)
def test_an_address_names_a_state_and_a_wrong_one_does_no_harm(opened, page, fragment, expected):
    opened.open(f"{page.as_uri()}#{fragment}")
    state = shown(opened)
    assert (state["steps"], state["slots"], state["alpha"], state["policy"]) == expected
    agree(state)


def test_the_state_is_kept_in_the_address(opened, page):
    opened.click("#policies label:has([value=msm])")
    address = opened.evaluate("location.href")
    opened.open(address)
    assert shown(opened)["policy"] == "msm"


def test_ism_without_room_for_an_internal_state_says_so(opened, page):
    opened.open(f"{page.as_uri()}#steps=9&slots=4&alpha=5&policy=ism")
    assert text(opened, "#summary").startswith("ISM does not fit: an internal state takes 5 slots, there are 4.")
    assert text(opened, "#alternatives [data-strategy=ism] td") == "does not fit"
    opened.click("#policies label:has([value=hsm])")
    agree(shown(opened))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_fits_its_window_and_is_legible(opened, page, width, dark):
    opened.resize(width, 900, dark=dark, touch=width < 500)
    opened.open(f"{page.as_uri()}#steps=64&slots=32&alpha=8&policy=msm")
    assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert opened.evaluate(
        "[...document.querySelectorAll('label, td, th, text')].every((one) => one.getClientRects().length)"
    )
    colours = opened.evaluate(
        """["--paper", "--card", "--ink", "--soft"].map(
            (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim())"""
    )
    paper, card, ink, soft = map(luminance, colours)
    assert (paper < ink) == dark
    assert min(contrast(back, front) for back in (paper, card) for front in (ink, soft)) >= 4.5


def test_everything_that_can_be_changed_has_a_name_for_a_screen_reader(opened):
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    names = {}
    for node in nodes:
        names.setdefault(node.get("role", {}).get("value"), []).append(node.get("name", {}).get("value", ""))
    assert names["slider"] == ["Steps t", "Slots m", "Internal α"]
    assert len(names["spinbutton"]) == 3
    assert names["radio"] == list(TITLES.values())
    assert len(names["image"]) == 2
    assert "23 forwards, 6 slots in use at most" in names["image"][0]
    for role in ("slider", "spinbutton", "radio", "image", "heading", "table"):
        assert all(names[role]), role


def test_the_page_asks_nothing_of_the_network(opened, page):
    opened.requests.clear()
    opened.open(page.as_uri())
    opened.click("#policies label:has([value=hsm])")
    opened.drag("#steps", 0.2, 0.9)
    assert {address.split("#")[0] for address in opened.requests} <= {page.as_uri(), "about:blank"}


def luminance(colour):
    """Return the relative luminance of ``#rrggbb``, as WCAG defines it."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    """Return WCAG's contrast ratio of two luminances."""
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def test_kept_and_owned_are_the_modes_that_the_page_names():
    script = (ROOT / "theory/explorer/explorer.js").read_text()
    assert f"const OWNED = {int(OWNED)}, KEPT = {int(KEPT)};" in script
