"""The lowest versions that may be installed have none of the holes that are known; no network is needed."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def requirements(root: Path) -> list[Requirement]:
    """All that the package and its extras ask for."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    parts = (project["dependencies"], *project["optional-dependencies"].values())
    return [Requirement(line) for part in parts for line in part]


def holes(root: Path) -> dict[str, list[tuple[str, str]]]:
    return tomllib.loads((root / "tests/house/known_holes.toml").read_text())["holes"]


def test_no_allowed_version_has_a_known_hole(root: Path) -> None:
    asked: dict[str, list[Requirement]] = {}
    for requirement in requirements(root):
        asked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for package, known in holes(root).items():
        assert package in asked, f"{package} comes with another package; name it, so that its bound is ours"
        for requirement in asked[package]:
            lowest = [Version(part.version) for part in requirement.specifier if part.operator in (">=", "==", "~=")]
            assert lowest, f"{requirement} has no lower bound"
            for first_good, what in known:
                assert max(lowest) >= Version(first_good), f"{requirement} allows versions with {what}"


def test_what_we_test_with_is_allowed(root: Path) -> None:
    """The pinned versions, and the installed ones, lie within the bounds."""
    pinned = dict(line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {canonicalize_name(name): pin.strip() for name, pin in pinned.items()}
    for requirement in requirements(root):
        name = canonicalize_name(requirement.name)
        if name == "cicm":
            continue
        if name in pins:
            assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} and =={pins[name]}"
        try:
            there = version(name)
        except PackageNotFoundError:
            continue
        assert requirement.specifier.contains(there.split("+")[0], prereleases=True), (
            f"{requirement}, installed {there}"
        )
