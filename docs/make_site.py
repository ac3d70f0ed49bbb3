"""Build the documentation site: ``python docs/make_site.py``.

The repository's own pages and notebooks are pages of the site, so nothing is written twice. They are laid out anew,
with their links rewritten, and handed to mkdocs, which stops at a dead link. Nothing is fetched, neither here nor by a
reader's browser.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import nbformat
from nbconvert import MarkdownExporter

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
FOLDERS: Final = ("impl", "theory", "proofs_check", "proofs_check/formal", "paper_figs", "bench", "notebooks")
OTHERS: Final = ("CHANGELOG.md", "CLAIMS.md", "CONTRIBUTING.md", "SECURITY.md", "SUPPORT.md", "paper_figs/RESULTS.md")
LINK: Final = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def main(arguments: list[str] | None = None) -> int:
    """Build the site anew; return mkdocs' exit status."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder (default: docs/out)")
    out: Path = parser.parse_args(arguments).out.resolve()
    pages, site = Pages(out / "pages"), out / "site"
    for folder in (pages.root, site):
        shutil.rmtree(folder, ignore_errors=True)
    for source in sources():
        pages.add(source)
    shutil.copyfile(HERE / "site.css", pages.root / "site.css")
    explorer = ROOT / "theory" / "explorer" / "build.py", "--out", pages.root / "explorer" / "index.html"
    subprocess.run([sys.executable, *explorer], check=True)
    status = build(HERE / "mkdocs.yml", pages.root, site)
    if status == 0:
        print(f"{site}: to read it with its search, python -m http.server --directory {site}")
    return status


def build(config: Path, pages: Path, site: Path) -> int:
    """Run mkdocs, strictly; return its exit status."""
    # Without its advertisement for a successor.
    environment = {**os.environ, "MEMBPTT_PAGES": str(pages), "MEMBPTT_SITE": str(site), "NO_MKDOCS_2_WARNING": "1"}
    # Not --quiet: what is not logged is not counted, and a dead link then passes.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    return subprocess.run(command, check=False, env=environment).returncode


def sources() -> Iterator[Path]:
    """Yield the repository's pages: those of docs, the READMEs of its folders, the ledger and the like, notebooks."""
    yield from sorted(path for path in HERE.rglob("*.md") if "out" not in path.relative_to(HERE).parts)
    yield from (ROOT / folder / "README.md" for folder in FOLDERS)
    yield from (ROOT / name for name in OTHERS)
    yield from sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@dataclass(frozen=True)
class Pages:
    """The pages as mkdocs takes them.

    Args:
        root: their folder.
    """

    root: Path

    def add(self, source: Path) -> None:
        """Write one page of the repository to its place here."""
        text = self._notebook(source) if source.suffix == ".ipynb" else source.read_text(encoding="utf-8")
        place = self.place(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(self.linked(text, source), encoding="utf-8")

    def place(self, source: Path) -> Path:
        """Return where a file of the repository lies here: those of docs on top, notebooks as pages."""
        if source == ROOT / "README.md":
            return self.root / "index.md"  # the front page says the same
        path = self.root / source.relative_to(HERE if source.is_relative_to(HERE) else ROOT)
        return path.with_suffix(".md") if path.suffix == ".ipynb" else path

    def linked(self, text: str, source: Path) -> str:
        """Return a page whose links lead to where their targets went; a target that is no page is copied beside it."""

        def link(match: re.Match[str]) -> str:
            if re.match(r"[a-z]+:", match[2]):
                return match[0]
            target = (source.parent / match[2]).resolve()
            place = self.place(target)
            if target.is_file() and target.suffix not in (".md", ".ipynb"):
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(target, place)
            return f"{match[1]}{os.path.relpath(place, self.place(source).parent)}{match[3]}"

        parts = re.split(r"(^```.*?^```$|`[^`\n]*`)", text, flags=re.DOTALL | re.MULTILINE)
        return "".join(part if index % 2 else LINK.sub(link, part) for index, part in enumerate(parts))

    def _notebook(self, source: Path) -> str:
        """Return a notebook as a page, as it was executed; its pictures are written beside it."""
        notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
        text, resources = MarkdownExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
        folder = self.place(source).with_suffix("")
        pictures = (
            output.metadata["image/png"]["alt"]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        )
        for (name, content), words in zip(resources["outputs"].items(), pictures, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            # As HTML, since `linked` knows files of the repository only.
            picture = f'<img src="{folder.name}/{name}" alt="{escape(words)}">'
            text = text.replace(f"![png]({name})", picture)
        return str(text)


if __name__ == "__main__":
    sys.exit(main())
