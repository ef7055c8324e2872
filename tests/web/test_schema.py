"""The interface keeps what its description says, for requests that nobody would think of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is in the extra `dev`")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from cicm.inference.settings import FILLS
from cicm.photos.formats import ENDINGS
from cicm.web.limits import Limits
from cicm.web.server import create_app

from .conftest import mask, photo, serving, tiny

PATHS = {"/api/v1/health": "GET", "/api/v1/info": "GET", "/api/v1/inpaint": "POST", "/api/v1/preview": "POST"}
SOME = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    with serving(create_app(tiny(), limits=Limits(max_bytes=2**20))) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_operation_is_tried(described: Any) -> None:
    found = {one.ok().path: one.ok().method.upper() for one in described.get_all_operations()}
    assert found == PATHS


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_one_that_is_described(described: Any, path: str, mode: str) -> None:
    operation = described[path][PATHS[path]]
    if mode == "negative" and PATHS[path] == "GET":
        pytest.skip("nothing to get wrong")
    generation = schemathesis.GenerationMode(mode)

    @SOME
    @given(operation.as_strategy(generation_mode=generation))
    def tried(case: Any) -> None:
        # A photo is more than its schema says, so that a well-formed request may be refused; and an empty list in a
        # form leaves no trace, so that a malformed one may be accepted.
        case.call_and_validate(excluded_checks=[positive_data_acceptance, negative_data_rejection])

    tried()


@pytest.mark.filterwarnings("ignore::cicm.inference.LargeHoleWarning")
def test_real_photos_are_answered_as_described(described: Any) -> None:
    operation = described["/api/v1/inpaint"]["POST"]

    @SOME
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "invert": st.sampled_from(["true", "false"]),
                "grow": st.integers(0, 4).map(str),
                "format": st.sampled_from([ending[1:] for ending in ENDINGS]),
                "fill": st.sampled_from(FILLS),
                "seed": st.integers(0, 2**31 - 1).map(str),
            },
        )
    )
    def tried(fields: dict[str, str]) -> None:
        case = operation.Case(body={"image": photo(), "mask": mask(), **fields}, media_type="multipart/form-data")
        answer = case.call()
        case.validate_response(answer)
        assert answer.status_code == (422 if fields.get("format") == "gif" else 200), answer.text  # 256 colours

    tried()
