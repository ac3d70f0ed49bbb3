"""The results page: every figure has its words and its picture, and nothing is published where a claim is false."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import store
from membptt_theory.claims import CLAIMS, Status
from membptt_theory.files import read_json
from paper_figs import evidence, fig03, make, results
from paper_figs.evidence import FigureClaimError

ROOT = Path(__file__).parents[1]
FEW = ("fig02b", "fig03")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(results, "FIGURES", FEW)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", make.FIGURES)
def test_every_figure_has_its_words(name):
    module = make.load(name)
    for word in ("CLAIM", "SAYS", "DOES_NOT_SAY"):
        assert getattr(module, word).endswith("."), word
    assert re.match(r"Figure \w+: .+\.$", module.__doc__.partition("\n")[0])


@pytest.mark.parametrize("name", make.FIGURES)
def test_every_figure_has_a_row_in_the_readme(name):
    rows = [line for line in (ROOT / "paper_figs/README.md").read_text().splitlines() if f"`{name}.py`" in line]
    assert len(rows) == 1
    assert len(rows[0].split(" | ")) == 6


def test_the_committed_page_shows_every_figure():
    page = (ROOT / "paper_figs/RESULTS.md").read_text()
    titles = re.findall(r"^## (.+)$", page, flags=re.MULTILINE)
    assert titles == [make.load(name).__doc__.partition("\n")[0].rstrip(".") for name in make.FIGURES]
    shown = set(re.findall(r"\(gallery/(\w+)\.svg\)", page))
    assert shown == {path.stem for path in (ROOT / "paper_figs/gallery").iterdir()}


def test_the_page_and_its_pictures_are_the_committed_bytes(few, tmp_path):
    assert results.main(["--out", str(tmp_path)]) == 0
    committed = ROOT / "paper_figs"
    written = files(tmp_path)
    assert sorted(written) == ["RESULTS.md", "gallery/fig02b.svg", "gallery/fig03.svg"]
    for name in FEW:
        assert written[f"gallery/{name}.svg"] == (committed / f"gallery/{name}.svg").read_bytes()
    for section in written["RESULTS.md"].decode().split("## ")[1:]:
        assert section.strip() in (committed / "RESULTS.md").read_text()


def test_a_picture_does_not_depend_on_the_formats_written_before_it(tmp_path):
    (tmp_path / "all").mkdir()
    make.make("fig03", tmp_path / "all")
    (path,) = make.make("fig03", tmp_path, formats=("svg",))
    assert path.read_bytes() == (tmp_path / "all/fig03.svg").read_bytes()


def test_a_figure_without_data_is_listed_as_missing_and_its_old_picture_goes(few, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "DATA", tmp_path / "data")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery/fig02b.svg").write_text("old")
    results.publish(tmp_path)
    page = (tmp_path / "RESULTS.md").read_text()
    assert "Missing: fig02b.json is not measured yet" in page
    assert "gallery/fig02b.svg" not in page
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["fig03.svg"]


def test_a_false_claim_publishes_nothing(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fig03, "TARGETS", {4: 8})
    assert results.main(["--out", str(tmp_path)]) == 1
    assert "nothing was written. fig03: t = 4: 7 forwards, not 8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_picture_too_large_to_commit_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "LARGEST", 1000)
    with pytest.raises(FigureClaimError, match="more than 1000"):
        results.publish(tmp_path)
    assert not list(tmp_path.iterdir())


def processors_of(figure):
    """Cells and lengths of the committed data of a figure, by what the processor calls itself."""
    (row,) = [
        line for line in (ROOT / "paper_figs/README.md").read_text().splitlines() if line.startswith(f"| {figure} |")
    ]
    points = {}
    for path in sorted(store.DATA.glob(re.findall(r"`bench/data/([\w.*]+)`", row)[0])):
        content = read_json(path)
        point = content.get("cell"), content.get("steps")
        points.setdefault(store.device_of(content), set()).add(point)
    return points


@pytest.mark.parametrize("claim", [each for each in CLAIMS if each.status is Status.MEASURED], ids=lambda each: each.id)
def test_a_measured_claim_names_the_processors_that_its_data_were_measured_on(claim):
    every = {store.device_of(read_json(path)) for path in store.DATA.glob("*.json")}
    longest_first = "|".join(map(re.escape, sorted(every, key=len, reverse=True)))
    assert set(re.findall(longest_first, claim.scope)) == set(processors_of(claim.figure))


def test_the_claim_about_checkpoint_names_the_cells_and_lengths_that_each_processor_ran():
    (claim,) = [each for each in CLAIMS if each.id == "ahead-of-checkpoint"]
    for name, points in processors_of("10").items():
        lengths_of = {}
        for steps in sorted({steps for _, steps in points if steps >= 1000}):
            cells = tuple(sorted(cell for cell, length in points if length == steps))
            lengths_of.setdefault(cells, []).append(f"{steps:,}")
        parts = [f"{', '.join(cells)}, {' and '.join(lengths)} steps" for cells, lengths in lengths_of.items()]
        told = f"{name}: {', and '.join(parts)}"
        assert re.search(rf"; {re.escape(told)}[;,.]", claim.scope), told


def test_the_words_of_a_section_are_the_figures_own():
    module = SimpleNamespace(__doc__="Figure 0: none.\n", CLAIM="It is so.", SAYS="That.", DOES_NOT_SAY="this.")
    section = results._section("fig00", module, {})
    assert section.startswith(
        "## Figure 0: none\n\n![Figure 0: none](gallery/fig00.svg)\n\n**Checked.** It is so.\n\nThat."
    )
    assert section.endswith("That. *What it does not say:* this.\n")
    measured = results._section("fig00", module, {"one (family 1, model 2)": 1, "other": 3})
    assert "so.\n\n**Seen on** one (family 1, model 2) (1 data file); other (3 data files).\n\nThat." in measured


def test_every_measured_figure_of_the_committed_page_names_its_processors():
    page = (ROOT / "paper_figs/RESULTS.md").read_text().split("\n## ")[1:]
    for name, section in zip(make.FIGURES, page, strict=True):
        (row,) = [line for line in (ROOT / "paper_figs/README.md").read_text().splitlines() if f"`{name}.py`" in line]
        assert ("**Seen on** " in section) == ("bench/data" in row), name


def test_a_figure_was_seen_on_the_processors_of_the_files_that_it_reads():
    with evidence.seen_on() as seen:
        make.load("fig02b").data()
        with evidence.seen_on() as inner:
            make.load("fig17").data()
    files = [store.DATA / "fig02b.json"], [*store.processors(store.path_of("fig17")).values()]
    assert [list(seen), list(inner)] == [
        [store.device_of(store.read(path, store.FIGURE)) for path in paths] for paths in files
    ]
    assert set(seen.values()) == set(inner.values()) == {1}
