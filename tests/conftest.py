"""Fixtures that all tests share, and the check of shape annotations while testing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

CHECKED_ROOMS = ["cicm.ops", "cicm.memory", "cicm.networks", "cicm.objectives", "cicm.metrics"]

if not os.environ.get("CICM_NO_SHAPE_CHECKS"):
    from jaxtyping import install_import_hook

    install_import_hook(CHECKED_ROOMS, "beartype.beartype").__enter__()

pytest_plugins = ["filling_models", "oracle_files"]  # fixtures that several rooms need

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path | None:
    """The reference data beside the repository; None in a clone without it."""
    folder = Path(os.environ.get("CICM_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "data").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data; the test is skipped, and says so, where that is absent."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("no ../shared beside this clone (or set CICM_SHARED)")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def file_limit() -> Callable[[int], AbstractContextManager[None]]:
    """file_limit(size): no file can grow beyond so many bytes; a write is cut short there, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
