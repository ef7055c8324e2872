"""Kernels of a pixel's own: the sum as a loop, the lean form against the plain one, what it keeps and refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.ops import filter_pixels, filter_pixels_plain
from cicm.ops.filtering import _spelled_out

LAW = settings(max_examples=25, deadline=None)
FORMS = [filter_pixels, filter_pixels_plain, _spelled_out]
# (channels, k, dilation, share): shares that divide k*k, that straddle channels, that do both
CASES = [
    (3, 3, 1, 1),
    (3, 3, 4, 1),
    (4, 3, 1, 4),
    (8, 3, 2, 4),
    (6, 3, 1, 2),
    (2, 3, 1, 3),
    (4, 3, 1, 6),
    (2, 5, 2, 1),
    (3, 1, 1, 1),
]


def pair(channels: int, side: int, share: int, size: tuple[int, int] = (5, 7), batch: int = 2, **options):
    planes = channels * side * side // share
    return torch.randn(batch, channels, *size, **options), torch.randn(batch, planes, *size, **options)


def loop(image: Tensor, kernels: Tensor, side: int, dilation: int, share: int) -> Tensor:
    """Pixel by pixel, tap by tap, nothing beyond the border."""
    batch, channels, height, width = image.shape
    out = torch.zeros_like(image)
    for b in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    for i in range(side):
                        for j in range(side):
                            v, u = y + (i - side // 2) * dilation, x + (j - side // 2) * dilation
                            if 0 <= v < height and 0 <= u < width:
                                plane = (c * side * side + side * i + j) // share
                                out[b, c, y, x] += kernels[b, plane, y, x] * image[b, c, v, u]
    return out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("channels", "side", "dilation", "share"), CASES)
def test_it_is_the_sum_over_the_neighbourhood(form, channels: int, side: int, dilation: int, share: int) -> None:
    image, kernels = pair(channels, side, share, batch=1, dtype=torch.float64)
    expected = loop(image, kernels, side, dilation, share)
    # float64, at most 25 products in another order
    assert_close(form(image, kernels, dilation=dilation, share=share), expected, rtol=1e-12, atol=1e-12)


def test_each_tap_reads_the_neighbour_it_names() -> None:
    """By hand: on 0..8 in a 3x3 square, tap t alone gives the middle pixel the value t."""
    for form in FORMS[:2]:
        image = torch.arange(9.0).view(1, 1, 3, 3)
        for tap in range(9):
            kernels = torch.zeros(1, 9, 3, 3)
            kernels[:, tap] = 1
            assert form(image, kernels)[0, 0, 1, 1] == tap, form


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(4, 3, 4), (3, 3, 1), (2, 5, 1)]), st.integers(1, 5))
@LAW
def test_the_lean_form_equals_the_plain_one_in_values_and_gradients(
    height: int, width: int, layout: tuple[int, int, int], dilation: int
) -> None:
    channels, side, share = layout
    results = []
    for form in FORMS:
        torch.manual_seed(height * 10 + width)  # the same inputs for each form
        image, kernels = pair(channels, side, share, (height, width), requires_grad=True, dtype=torch.float64)
        out = form(image, kernels, dilation=dilation, share=share)
        out.square().sum().backward()
        results.append((out.detach(), image.grad, kernels.grad))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "side", "dilation", "share"), [(2, 3, 1, 1), (4, 3, 2, 4), (1, 5, 1, 1)])
def test_gradients_agree_with_differences(channels: int, side: int, dilation: int, share: int) -> None:
    inputs = pair(channels, side, share, (3, 4), 1, requires_grad=True, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda i, k: filter_pixels(i, k, dilation, share=share), inputs)


def test_only_the_gradient_that_is_asked_for_is_made() -> None:
    image, kernels = pair(2, 3, 1)
    for wanted, other in ((image, kernels), (kernels, image)):
        wanted.requires_grad_()
        filter_pixels(image, kernels).sum().backward()
        assert wanted.grad is not None
        assert other.grad is None
        wanted.requires_grad_(False).grad = None


def test_it_keeps_its_two_inputs_and_nothing_else() -> None:
    image, kernels = (leaf.requires_grad_() for leaf in pair(4, 3, 4, (16, 16)))
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        filter_pixels(image, kernels, share=4)
        lean = {tensor.untyped_storage().data_ptr() for tensor in kept}
        kept.clear()
        filter_pixels_plain(image, kernels, share=4)
    assert lean == {image.data_ptr(), kernels.data_ptr()}
    assert max(tensor.numel() for tensor in kept) >= 9 * image.numel()  # the hook would notice


def test_a_second_derivative_is_refused_and_the_plain_form_has_it() -> None:
    def second(form) -> None:
        image, kernels = pair(1, 3, 1, requires_grad=True)
        (first,) = torch.autograd.grad(form(image, kernels).square().sum(), image, create_graph=True)
        first.square().sum().backward()

    with pytest.raises(RuntimeError, match="once_differentiable"):
        second(filter_pixels)
    second(filter_pixels_plain)


def test_the_middle_tap_alone_changes_nothing() -> None:
    image = torch.randn(2, 3, 6, 5)
    kernels = torch.zeros(2, 27, 6, 5)
    kernels[:, 4::9] = 1
    for dilation in (1, 3):
        assert torch.equal(filter_pixels(image, kernels, dilation), image)


def test_pictures_of_a_batch_do_not_influence_each_other() -> None:
    image, kernels = pair(4, 3, 4, batch=3)
    together = filter_pixels(image, kernels, share=4)
    assert torch.equal(together[1:2], filter_pixels(image[1:2], kernels[1:2], share=4))


@pytest.mark.parametrize("share", [1, 4])
@pytest.mark.parametrize("form", [filter_pixels, _spelled_out])
def test_half_precision_is_rounded_once(form, share: int) -> None:
    image, kernels = (leaf.bfloat16() for leaf in pair(4, 3, share))
    exact = filter_pixels_plain(image.float(), kernels.float(), share=share)
    out = form(image, kernels, dilation=1, share=share)
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), exact, rtol=2**-8, atol=1e-6)  # half a unit in the last of bfloat16's 8 bits
    assert form(image.float(), kernels, dilation=1, share=share).dtype == torch.float32


def test_gradients_have_the_dtypes_of_their_inputs() -> None:
    image, kernels = pair(4, 3, 4)
    mixed = image.requires_grad_(), kernels.bfloat16().requires_grad_()
    filter_pixels(*mixed, share=4).square().sum().backward()
    exact = image.detach().clone().requires_grad_(), mixed[1].detach().float().requires_grad_()
    filter_pixels_plain(*exact, share=4).square().sum().backward()
    assert [leaf.grad.dtype for leaf in mixed] == [torch.float32, torch.bfloat16]
    assert_close(mixed[0].grad, exact[0].grad)
    assert_close(mixed[1].grad.float(), exact[1].grad, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("share", [1, 4])
def test_the_layout_in_memory_does_not_matter(share: int) -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        image, kernels = (leaf.to(memory_format=layout).requires_grad_() for leaf in pair(4, 3, share))
        out = filter_pixels(image, kernels, share=share)
        assert out.is_contiguous(memory_format=layout)
        out.square().sum().backward()
        results.append((out.detach(), image.grad, kernels.grad))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_what_does_not_fit_is_refused() -> None:
    for form in FORMS[:2]:
        image = torch.zeros(1, 4, 6, 6)
        for planes, share in ((37, 1), (4 * 4, 1), (36, 2), (9, 1), (10, 4)):
            with pytest.raises(InputError, match=f"For k = 3 give {36 // share} planes"):
                form(image, torch.zeros(1, planes, 6, 6), share=share)
        for options in ({"dilation": 0}, {"share": 0}):
            with pytest.raises(InputError, match="at least 1"):
                form(image, torch.zeros(1, 36, 6, 6), **options)
