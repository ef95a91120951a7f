"""Hosts that are folders: each serves the version that its file `current` names."""

from __future__ import annotations

from pathlib import Path


class Unwell(Exception):
    """A host does not serve its version well."""


class Fleet:
    """The hosts, a sign that visitors see, and the versions that do not start on some host."""

    def __init__(self, folder: Path, hosts: list[str], version: str) -> None:
        self.folder = folder
        self.broken: set[tuple[str, str]] = set()
        for host in hosts:
            (folder / host).mkdir()
            self.switch(host, version)

    def serves(self, host: str) -> str:
        return (self.folder / host / "current").read_text("utf-8")

    def switch(self, host: str, version: str) -> None:
        """Serves a version from now on; twice is the same as once."""
        draft = self.folder / host / "next"
        draft.write_text(version, "utf-8")
        draft.replace(self.folder / host / "current")

    def check(self, host: str) -> str:
        version = self.serves(host)
        if (host, version) in self.broken:
            raise Unwell(f"{host} does not start with version {version}")
        return f"{host} is well"

    def sign(self, text: str) -> None:
        (self.folder / "sign.txt").write_text(text, "utf-8")

    def shown(self) -> dict[str, str]:
        sign = self.folder / "sign.txt"
        hosts = {each.name: self.serves(each.name) for each in sorted(self.folder.iterdir()) if each.is_dir()}
        return {**hosts, "sign": sign.read_text("utf-8") if sign.exists() else ""}
