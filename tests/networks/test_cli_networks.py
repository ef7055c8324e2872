"""`cicm networks`: a table and Markdown of what is registered."""

from __future__ import annotations

import pytest
import torch

from cicm.cli.main import main
from cicm.networks import FeatureSite, create, names
from cicm.networks.inventory import facts


def run(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    code = main(["networks", *words])
    return code, *capsys.readouterr()


def test_every_network_has_a_row(capsys: pytest.CaptureFixture) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    for name in names():
        assert f"│ {name} " in out
        with torch.device("meta"):
            network = create(name)
        for site in network.sites:
            assert f"{site.name} {site.channels}/{site.stride}" in out


def test_the_markdown_is_a_whole_table(capsys: pytest.CaptureFixture) -> None:
    code, out, _ = run(capsys, "--markdown")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 2 + len(names())
    assert {line.count("|") for line in lines} == {8}
    unet = next(line for line in lines if line.startswith("| unet |"))
    assert "| 25.8 M | 37.6 G |" in unet
    assert "bottom 512/16 | multiples of 16, from 32 | Cross-Image Context" in unet
    assert unet.endswith("| this project; Apache-2.0 |")
    misf = next(line for line in lines if line.startswith("| misf |"))
    assert "(CVPR 2022) | github.com/tsingqguo/misf @ 775ef7d; no licence file; " in misf


def test_facts_name_the_original_and_its_licence() -> None:
    found = {name: facts(name) for name in names()}
    assert found["unet"].sites[-1] == FeatureSite("bottom", 512, 16)
    assert found["unet"].pixels == (256, 256)
    assert found["rfr"].origin.source == "github.com/jingyuanli001/RFR-Inpainting"
    assert found["rfr"].origin.revision == "e1cad6a"
    assert found["rfr"].origin.licence.startswith("MIT")


def test_help_says_whose_terms_hold_for_what(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(capsys, "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "The code here was written anew and is under Apache-2.0" in told
    assert "Weights released by others keep their own terms" in told


def test_what_is_wrong_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture) -> None:
    for words in (["--json"], ["unet"], ["--nothing"]):
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, ""), words
        assert err.count("\n") == 1, words
