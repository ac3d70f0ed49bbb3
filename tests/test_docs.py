"""The documentation site: it builds strictly, every page is reached, nothing is fetched, and its examples run."""

import importlib.util
import re
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urldefrag, urljoin

import pytest

from tests.browser import browser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "out" not in page.relative_to(DOCS).parts]
HOW_TO = {"lstm", "plan", "truncated", "lengths", "spiking", "state-space", "neural-ode", "deep", "meta-learning"}
LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.href)"
UNTOLD = (
    "[...document.images].filter(image => image.alt.length < 15).map(image => image.src)"  # without alternative text
)
RESULTS = """new Promise(resolve => {
    const until = Date.now() + 20000;
    const look = () => {
        const results = [...document.querySelectorAll('.md-search-result__link')].map(link => link.href);
        results.length || Date.now() > until ? resolve(results) : setTimeout(look, 50);
    };
    const box = document.querySelector('.md-search__input');
    box.focus();
    box.value = 'Stateful';
    box.dispatchEvent(new Event('input'));
    box.dispatchEvent(new Event('keyup'));
    look();
})"""


def examples(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in examples(page):
            exec(compile(example, str(page), "exec"), names)


def test_there_is_a_page_with_an_example_for_every_question():
    assert HOW_TO | {"several-gpus", "index"} == {page.stem for page in (DOCS / "how-to").iterdir()}
    assert all(examples(DOCS / "how-to" / f"{name}.md") for name in HOW_TO)


def make_site():
    """``docs/make_site.py``, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("make_site", DOCS / "make_site.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built and served: its folder and its address."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("docs")
    assert make_site().main(["--out", str(out)]) == 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=out / "site")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield out / "site", f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_every_page_is_reached_and_nothing_is_fetched_from_elsewhere(site):
    folder, address = site
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")} - {"404.html"}
    with browser() as page:
        waiting, seen = ["index.html"], set()
        while waiting:
            name = waiting.pop()
            seen.add(name)
            page.open(address + name)
            links = {urldefrag(urljoin(address + name, link)).url for link in page.evaluate(LINKS)}
            inside = {link.removeprefix(address) for link in links if link.startswith(address)}
            inside = {f"{link}index.html" if link.endswith("/") or not link else link for link in inside}
            assert [link for link in inside if not (folder / link).is_file()] == [], name
            waiting += sorted((inside & pages) - seen - set(waiting))
            assert page.evaluate(UNTOLD) == [], name
            assert "\\(" not in page.evaluate("document.querySelector('article')?.innerText ?? ''"), name
        assert seen == pages
        assert [url for url in page.requests if not url.startswith((address, "data:", "about:", "blob:"))] == []
        assert page.errors == []


def test_the_front_page_fits_a_screen_and_the_search_finds_a_call(site):
    _, address = site
    with browser() as page:
        page.resize(1280, 900)
        page.open(address + "index.html")
        assert page.evaluate("document.querySelector('article').getBoundingClientRect().bottom") <= 900
        assert any("reference/calls.html" in link for link in page.evaluate(RESULTS))


def test_a_link_leads_to_where_its_target_went(tmp_path):
    pytest.importorskip("nbconvert")
    pages = make_site().Pages(tmp_path)
    text = "[a](../../notebooks/01_ten_lines.ipynb) [b](../index.md#x) `[c](d.md)` [e](https://example.org)"
    assert pages.linked(text, DOCS / "how-to" / "lstm.md") == (
        "[a](../notebooks/01_ten_lines.md) [b](../index.md#x) `[c](d.md)` [e](https://example.org)"
    )
    assert pages.linked("[v](Theorems.v)", ROOT / "proofs_check/formal/README.md") == "[v](Theorems.v)"
    assert (tmp_path / "proofs_check/formal/Theorems.v").is_file()


@pytest.mark.parametrize(("text", "status"), [("[a](index.md)", 0), ("[a](absent.md)", 1), ("[a](index.md#absent)", 1)])
def test_a_dead_link_stops_the_build(text, status, tmp_path):
    pytest.importorskip("mkdocs")
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Page\n\n{text}\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {DOCS / 'mkdocs.yml'}\nnav: [index.md]\nplugins: [search]\nhooks: []\nextra_css: []\n")
    assert make_site().build(config, pages, tmp_path / "site") == status
