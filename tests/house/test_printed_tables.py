"""A table on a page that a command prints is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from experiments.fills import HOLES, page_table, readme_table

from cicm.cli.main import main
from cicm.networks import names

MARKED = re.compile(
    r"<!-- (?P<name>\w+): (?P<command>(?:cicm|python) [^>]*?) -->\n(?P<table>.*?)<!-- /(?P<end>\w+) -->", re.DOTALL
)


def tables(text: str) -> list[tuple[str, str, str]]:
    found = [(m["name"], m["command"], m["table"]) for m in MARKED.finditer(text) if m["name"] == m["end"]]
    assert len(found) == text.count("<!-- /"), "a table begins or ends without the other mark"
    return found


def test_the_table_of_networks_is_what_the_command_prints(root: Path, capsys: pytest.CaptureFixture) -> None:
    marked = {name: (command, table) for name, command, table in tables((root / "docs" / "networks.md").read_text())}
    command, table = marked["networks"]
    assert command == "cicm networks --markdown"
    assert main(command.split()[1:]) == 0
    assert table == capsys.readouterr().out, f"the page is behind: put there what `{command}` prints"
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == names()


def test_the_tables_of_ways_to_fill_are_those_of_the_records(root: Path) -> None:
    marked = {name: (command, table) for name, command, table in tables((root / "README.md").read_text("utf-8"))}
    assert marked["fills"] == ("python -m experiments.fills table", readme_table().markdown() + "\n")
    page = (root / "results" / "fills.md").read_text("utf-8")
    for (kind, band), words in HOLES.items():
        assert f"<!-- fills {words} -->\n{page_table(kind, band).markdown()}\n<!-- /fills -->" in page


def test_a_table_without_its_end_would_be_noticed() -> None:
    assert tables("<!-- a: cicm b --c -->\n| x |\n<!-- /a -->") == [("a", "cicm b --c", "| x |\n")]
    with pytest.raises(AssertionError, match="begins or ends"):
        tables("| x |\n<!-- /a -->")
