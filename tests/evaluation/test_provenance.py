"""Which machine and software a number is from."""

from __future__ import annotations

import torch

from cicm.evaluation.provenance import hardware, software


def test_hardware_and_software_are_named():
    assert f"{torch.get_num_threads()} thread(s)" in hardware()
    assert len(hardware().split(",")[0]) > 2
    versions = software()
    assert versions["torch"] == torch.__version__
    assert {"python", "numpy", "pillow"} <= versions.keys()
