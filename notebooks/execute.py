"""Write notebooks afresh from their py:percent text, executed: ``python notebooks/execute.py [PATH.py ...]``.

Without paths, every numbered text beside this file. What is written depends on the sources and on
the versions of the packages alone: cells are numbered, and neither times nor the machine are recorded. Only what a
notebook of the runtime measures differs from run to run.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import jupytext
import nbformat
import zmq
from nbclient import NotebookClient
from tqdm import tqdm

FOLDER: Final = Path(__file__).resolve().parent
KERNEL: Final = {"display_name": "Python 3", "language": "python", "name": "python3"}
TIMEOUT: Final = 300  # seconds a cell


def main() -> None:
    """Execute the chosen notebooks; the first error stops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH.py", help="default: all")
    chosen = parser.parse_args().paths or sorted(FOLDER.glob("[0-9]*.py"))
    if absent := [str(path) for path in chosen if not path.is_file()]:
        parser.error(f"there is no {', '.join(absent)}")
    for path in chosen:
        write(path)


def write(path: Path) -> None:
    """Execute the text of one notebook on a fresh kernel, then replace the ``.ipynb`` beside it."""
    notebook = jupytext.read(path)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.NotebookNode()
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, path.stem, Path(folder))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    describe_pictures(notebook)
    notebook.metadata["kernelspec"] = KERNEL
    notebook.metadata.pop("widgets", None)  # their identifiers are drawn at random
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["jupytext"].pop("text_representation", None)  # jupytext --sync leaves it out as well
    target = path.with_suffix(".ipynb")
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, target)


def describe_pictures(notebook: nbformat.NotebookNode) -> None:
    """Give each picture an alternative text where readers look for it: its section, and what stands before it."""
    section = sentence = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"^#+ (.*)$", cell.source, flags=re.MULTILINE) or [section])[-1]
            words = re.sub(r"^#+ .*$", "", cell.source, flags=re.MULTILINE).split("\n\n")[-1]
            sentence = re.split(r"(?<=[.;:])\s", " ".join(words.split()))[0].strip("-*.:; ")
        readable = (
            sentence if len(sentence.split()) > 3 and "\\" not in sentence else ""
        )  # formulas cannot be read aloud
        text = re.sub(r"[$*`\\]", "", f"Picture of: {section}. {readable}".rstrip(". ").replace("?.", "?"))
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": text}


def joined(outputs: list[Any]) -> list[Any]:
    """Return outputs in which what follows on a stream is one piece: where it was cut depends on the kernel's pace."""
    whole: list[Any] = []
    for output in outputs:
        if whole and output.output_type == whole[-1].output_type == "stream" and output.name == whole[-1].name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def execute(notebook: nbformat.NotebookNode, name: str, folder: Path) -> None:
    """Run every cell, in place, on a fresh kernel whose working directory is `folder`."""
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=total, desc=name, unit="cell", file=sys.stderr, disable=None) as progress:
        Client(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
            on_cell_complete=lambda **_: progress.update(),
        ).execute(env={key: value for key, value in os.environ.items() if key != "MPLBACKEND"})


class Client(NotebookClient):  # type: ignore[misc]
    """One that looks every second for a reply that has come unnoticed.

    What a widget sends to the kernel goes through the same socket, and may use up the event that announces the reply:
    without this, a cell that is done would be waited for until its time is over.
    """

    async def _async_check_alive(self) -> None:
        await super()._async_check_alive()
        self.kc.shell_channel.socket.get(zmq.EVENTS)


if __name__ == "__main__":
    main()
