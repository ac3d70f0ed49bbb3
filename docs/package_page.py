"""A hook of hatchling: the README as the package's page, where the repository's files are not beside it.

Its links become absolute where `[project.urls]` has a `Repository`; without one, they become their text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)")


class PackagePage(MetadataHookInterface):
    """Fills in `readme`, which is dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Enter the page."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, repository)}


def absolute(text: str, repository: str | None) -> str:
    """Return a page that can be read anywhere."""

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if repository is None:
            return f"*{words}*" if picture else words
        return f"{picture}[{words}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/main/{target})"

    parts = re.split(r"(^```.*?^```$|`[^`\n]*`)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if index % 2 else _LINK.sub(link, part) for index, part in enumerate(parts))
