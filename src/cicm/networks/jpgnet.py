"""A generator, a predictive filter, and a second filter that fuses the two.

"JPGNet: Joint Predictive Filtering and Generative Network for Image Inpainting" (ACM MM 2021). A predictive filter
gives every pixel a kernel of its own: sharp where something known is near, blind a few pixels further in. There the
generator has the content, and the fusing filter chooses between them pixel by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.edgeconnect import EdgeGenerator, ImageGenerator, known_edges
from cicm.networks.layers import TripleConv
from cicm.networks.originals import Rename, dump_original, network_from
from cicm.networks.registry import create, register
from cicm.ops import composite, filter_pixels

DILATIONS = (1, 2, 3, 4)
TAPS = 9

Generator = Literal["edgeconnect", "unet", "rfr"]
Edges = Literal["predicted", "known", "none"]
Uncertainty = Literal["image", "batch"]
Stage = Literal["all", "generator", "filter", "fusion"]
Part = Literal["generator", "filter", "fusion", "edges"]

_TRAINED: dict[Stage, tuple[str, ...]] = {
    "all": ("edge_generator", "generator", "filter", "fusion"),
    "generator": ("edge_generator", "generator"),
    "filter": ("filter",),
    "fusion": ("fusion",),
}
"""Stage -> submodules that learn in it."""
_VISITED: dict[Stage, tuple[str, ...]] = {
    "all": ("generator", "filter", "bottom"),
    "generator": ("generator",),
    "filter": ("filter",),
    "fusion": ("generator", "filter", "bottom"),
}
"""Stage -> sites that its forward reaches."""


PICTURES_APART = {"uncertainty": "image"}
"""Options under which a batch gives what its pictures give one at a time; the original's own are for batches of one."""


@register("jpgnet")
class JPGNet(InpaintingNetwork):
    """Generator, predictive filter and fusion: 76.5 M parameters at width 64, of which the generator has 21.5 M.

    Args:
        width: channels of each part's first layer; 64 is the original's.
        generator: `edgeconnect`; or another network from here, `unet` or `rfr`, of the same width: any will do.
        edges: what EdgeConnect's generator is told: `predicted` by its edge generator; `known` are Canny's edges of
            the known part, none in the hole; `none` at all. None means `predicted`, and no edges for other generators.
        uncertainty: the map of it is stretched to [0, 1] over each `image`, or over the whole `batch` as the original
            does, by which the pictures of a batch influence each other, in evaluation mode too.
        stage: what a forward runs and what learns. The published training has three: `generator` alone, `filter`
            alone, then `fusion` with the other two frozen (no gradient on their parameters, evaluation mode). `all`
            learns end to end. Parameter names are the same for all, so that one stage goes on from another's weights.

    Sites: `generator` (the generator's lowest map), `filter` (the filter's), `bottom` (the fusion's, where the memory
    sits by default); of a stage that runs one part alone only that part's, under the same name.

    Differs from the original: the uncertainty is stretched over each picture and not over the batch (`uncertainty`);
    no gradient flows through it, also where all parts learn together, because the stretch divides by a range that is
    next to nothing at first. Parts begin as filters that copy and as a fusion that takes the mean of its two pictures.
    """

    def __init__(
        self,
        width: int = 64,
        generator: Generator = "edgeconnect",
        edges: Edges | None = None,
        uncertainty: Uncertainty = "image",
        stage: Stage = "all",
    ) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width must be at least 1; got {width}.")
        _one_of("generator", generator, Generator)
        _one_of("uncertainty", uncertainty, Uncertainty)
        _one_of("stage", stage, Stage)
        if edges is not None:
            _one_of("edges", edges, Edges)
            if generator != "edgeconnect":
                raise InputError(f"edges are for the edgeconnect generator; {generator!r} takes none. Leave edges out.")
        self.kind, self.uncertainty, self.stage = generator, uncertainty, stage
        self.edges = (edges or "predicted") if generator == "edgeconnect" else None
        self.edge_generator = EdgeGenerator(width) if self.edges == "predicted" else None
        if generator == "edgeconnect":
            self.generator: nn.Module = ImageGenerator(width)
            lowest, size = FeatureSite("generator", 4 * width, 4), SizeRule(4, 12)
        else:
            other = create(generator, width=width)
            self.generator, size = other, other.size
            self.batch_statistics = other.batch_statistics
            lowest = FeatureSite("generator", other.site("bottom").channels, other.site("bottom").stride)
        self.filter = PredictiveFilter(3, 3, width, fuses=False)
        self.fusion = PredictiveFilter(3 + 3 + 3 * TAPS + 1, 6, width, fuses=True)
        for name, part in self.named_children():
            if name not in _TRAINED[stage]:
                part.requires_grad_(False).eval()
        # by stride; a tie keeps the order in which they are visited
        sites = (lowest, FeatureSite("filter", 8 * width, 16), FeatureSite("bottom", 8 * width, 16))
        self.sites = tuple(sorted((s for s in sites if s.name in _VISITED[stage]), key=lambda s: s.stride))
        self.size = SizeRule(math.lcm(16, size.multiple_of), max(16, size.minimum))
        self.batch_statistics = self.batch_statistics or uncertainty == "batch"

    def train(self, mode: bool = True) -> JPGNet:
        """As of any module, but what a stage freezes stays in evaluation mode."""
        super().train(mode)
        for name, part in self.named_children():
            if name not in _TRAINED[self.stage]:
                part.eval()
        return self

    def forward(
        self,
        corrupted: Float[Tensor, "B 3 H W"],
        hole: Float[Tensor, "B 1 H W"],
        *,
        edit: Edit = unchanged,
        edges: Float[Tensor, "B 1 H W"] | None = None,
    ) -> Prediction:
        """Predict the complete image.

        Args:
            corrupted: (B, 3, H, W) in [0, 1], `image * (1 - hole)`.
            hole: (B, 1, H, W), 1 = missing.
            edges: (B, 1, H, W) in [0, 1], for EdgeConnect's generator in place of what the network would tell it.

        Returns:
            The fused picture, with the generator's and the filter's as `earlier`; of a stage that runs one part alone
            that part's picture, with none earlier.

        Raises:
            InputError: another size; edges for a generator that takes none.
        """
        self.size.check(*corrupted.shape[-2:])
        if edges is not None and self.edges is None:
            raise InputError("this JPGNet's generator takes no edges. Leave them out, or build it with edgeconnect.")
        corrupted = corrupted * (1 - hole)
        if self.stage == "filter":
            return Prediction(self.filter(corrupted, corrupted, edit=edit, site="filter")[0])
        generated = self._generate(corrupted, hole, edges, edit)
        if self.stage == "generator":
            return Prediction(generated)
        filtered, kernels = self.filter(corrupted, corrupted, edit=edit, site="filter")
        both = torch.cat([composite(generated, corrupted, hole), composite(filtered, corrupted, hole)], 1)
        seen = torch.cat([both, kernels, uncertainty(kernels.detach(), self.uncertainty)], 1)
        fused, _ = self.fusion(seen, both, edit=edit, site="bottom")
        return Prediction(fused, (generated, filtered))

    def _generate(self, corrupted: Tensor, hole: Tensor, edges: Tensor | None, edit: Edit) -> Tensor:
        if self.edges is None:

            def at_bottom(site: str, features: Tensor) -> Tensor:
                return edit("generator", features) if site == "bottom" else features

            return self.generator(corrupted, hole, edit=at_bottom).image
        if edges is None:
            if self.edge_generator is not None:
                edges = self.edge_generator(corrupted, hole)
            else:
                edges = known_edges(corrupted, hole) if self.edges == "known" else torch.zeros_like(hole)
        return self.generator(corrupted, hole, edges, edit=edit)


class PredictiveFilter(nn.Module):
    """A UNet that predicts a 3x3 kernel for each pixel and channel, and the filter that applies them.

    They are applied four times, spread by 1 to 4 pixels, and a last convolution merges the four. What comes out at a
    pixel depends on the filtered pictures 5 pixels around it and no further: deep inside a hole it is a constant.

    Args:
        inputs: channels that the kernels are predicted from.
        channels: of the picture, or the pictures one behind the other, that are filtered.
        width: of the first level; the lowest has 8 times as many channels.
        fuses: whether 6 filtered channels become 3 by `blend`; otherwise that layer is the original's unused one.
    """

    def __init__(self, inputs: int, channels: int, width: int, fuses: bool) -> None:
        super().__init__()
        planes = channels * TAPS
        levels = (inputs, width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.down = nn.ModuleList(TripleConv(a, b) for a, b in pairwise(levels))
        self.up = nn.ModuleList(
            [TripleConv(16 * width, 8 * width), TripleConv(12 * width, 4 * width), TripleConv(6 * width, planes)]
        )
        self.kernels = nn.Conv2d(planes, planes, 1)
        self.merge = nn.Conv2d(3 * len(DILATIONS), 3, 3, padding=1)
        self.blend = nn.Conv2d(6, 3, 1).requires_grad_(fuses)
        self.fuses = fuses
        self._begin(channels)

    def _begin(self, channels: int) -> None:
        """Kernels that copy, a merge that takes the mean: the first output is the picture that came."""
        for block in (*self.down, *self.up):
            for conv in block.modules():
                if isinstance(conv, nn.Conv2d):
                    # He et al. 2015: 25 rectified layers without normalisation need the right scale at the start
                    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.kernels.weight, std=0.01)
        middle = torch.zeros(TAPS)
        middle[TAPS // 2] = 1
        mean, half = torch.zeros(3, 3 * len(DILATIONS), 3, 3), torch.zeros(3, 6, 1, 1)
        for colour in range(3):
            mean[colour, colour::3, 1, 1] = 1 / len(DILATIONS)
            half[colour, colour::3] = 1 / 2
        with torch.no_grad():
            self.kernels.bias.copy_(middle.repeat(channels))  # type: ignore[union-attr]
            self.merge.weight.copy_(mean)
            self.blend.weight.copy_(half)
            for layer in (self.merge, self.blend):
                layer.bias.zero_()  # type: ignore[union-attr]

    def forward(
        self,
        seen: Float[Tensor, "B inputs H W"],
        pictures: Float[Tensor, "B channels H W"],
        *,
        edit: Edit = unchanged,
        site: str = "filter",
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B planes H W"]]:
        """Predict kernels from `seen` and filter `pictures` by them.

        Returns:
            The filtered picture, unbounded, and the kernels: (B, channels * 9, H, W) as `filter_pixels` takes them.
        """
        features, skips = seen, []
        for depth, block in enumerate(self.down):
            features = block(F.avg_pool2d(features, 2) if depth else features)
            skips.append(features)
        features = edit(site, features)
        for block, skip in zip(self.up, skips[3:0:-1], strict=True):
            features = block(torch.cat([skip, _doubled(features)], 1))
        kernels = self.kernels(_doubled(features))
        results = [filter_pixels(pictures, kernels, dilation) for dilation in DILATIONS]
        if self.fuses:
            results = [self.blend(result) for result in results]
        return self.merge(torch.cat(results, 1)), kernels


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


def uncertainty(kernels: Float[Tensor, "B 27 H W"], over: Uncertainty = "image") -> Float[Tensor, "B 1 H W"]:
    """How sure the filter is of a pixel: the mean of its kernels, stretched to [0, 1].

    Args:
        kernels: (B, 27, H, W); three colours, nine taps each.
        over: what the least and the largest are taken of; a picture all alike gives 0.

    Example:
        >>> uncertainty(torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3).expand(1, 27, 1, 3))[0, 0]
        tensor([[0.0000, 0.5000, 1.0000]])
    """
    # float32: the range may be a hundredth of the values
    mean = kernels.float().unflatten(1, (3, TAPS)).mean(2).mean(1, keepdim=True)
    axes = (1, 2, 3) if over == "image" else (0, 1, 2, 3)
    low, high = mean.amin(axes, keepdim=True), mean.amax(axes, keepdim=True)
    return (mean - low) / (high - low).clamp_min(torch.finfo(mean.dtype).tiny)


def _one_of(what: str, value: str, known: Any) -> None:
    if value not in get_args(known):
        raise InputError(f"{what} must be one of {', '.join(get_args(known))}; got {value!r}.")


# The published code's names -------------------------------------------------------------------------------------------

PARTS: tuple[Part, ...] = get_args(Part)
_SUBMODULES = {"generator": "generator", "edges": "edge_generator", "filter": "filter", "fusion": "fusion"}
"""Part, as the published files are told apart here -> our submodule."""
_TRUNK = {"encoder": (1, 4, 7), "decoder": (0, 3, 7)}
_LAYERS = {"kernels": "outc", "merge": "conv_final", "blend": "conv_fusion"}
_NORMALISED = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def rename(name: str) -> str:
    """Our name -> the original's, behind the name of its part.

    Example:
        >>> rename("fusion.down.0.conv1.2.bias"), rename("edge_generator.encoder.2.parametrizations.weight.0._u")
        ('fusion.conv1.conv1.2.bias', 'edges.encoder.7.weight_u')
    """
    submodule, _, rest = name.partition(".")
    part = next(p for p, ours in _SUBMODULES.items() if ours == submodule)
    if part in ("filter", "fusion"):
        layer, _, rest = rest.partition(".")
        if layer in _LAYERS:
            return f"{part}.{_LAYERS[layer]}.{rest}"
        level, _, rest = rest.partition(".")
        return f"{part}.conv{int(level) + (1 if layer == 'down' else 6)}.{rest}"
    for ours, theirs in _NORMALISED.items():
        rest = rest.replace(ours, theirs)
    layer, _, tail = rest.partition(".")
    if layer in _TRUNK:
        index, _, tail = tail.partition(".")
        rest = f"{layer}.{_TRUNK[layer][int(index)]}.{tail}"
    return f"{part}.{rest}"


def _rename_for(generator: str) -> Rename:
    """`rename`, for that generator."""
    if generator == "edgeconnect":
        return rename
    if generator == "rfr":
        from cicm.networks import rfr

        def with_rfr(name: str) -> str:
            own = name.removeprefix("generator.")
            return rename(name) if own == name else f"generator.{rfr.rename(own)}"

        return with_rfr
    raise InputError(f"the published code has no JPGNet with our {generator!r}; save this one with its own state dict.")


def recognise_part(state: Mapping[str, Any]) -> Part:
    """Which part of JPGNet a published file holds, by names and shapes: each of them is a file of its own.

    Args:
        state: a state dict, or the published container that holds it as `generator`.

    Raises:
        InputError: none of them.

    Example:
        >>> recognise_part({"conv1.conv1.0.weight": torch.zeros(64, 34, 3, 3)})
        'fusion'
    """
    state = _unwrapped(state)
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    inputs = {name: shape[1] for name, shape in shapes.items() if len(shape) == 4}
    if "conv8.conv1.0.weight" in inputs or "conv1.conv1.0.weight" in inputs:
        match inputs.get("conv1.conv1.0.weight"), shapes.get("outc.weight", ())[:1]:
            case (3, (27,) | ()):
                return "filter"
            case (34, (54,) | ()):
                return "fusion"
    if inputs.get("encoder.1.weight_orig") == 3:
        return "edges"
    if inputs.get("encoder.1.weight") == 4 or ("Pconv1.weight" in inputs and "RFRModule.enc_1.0.weight" in inputs):
        return "generator"
    few = ", ".join(map(str, list(state)[:4]))
    raise InputError(
        f"expected the state dict of one of JPGNet's parts, which are {', '.join(PARTS)}; got {len(state)} entries"
        f"{f', the first of them {few}' if few else ''}. Files of other networks are converted under their own name."
    )


def parts_of(state: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Split a checkpoint of a whole JPGNet into its parts, under the names that each has in its own file.

    Args:
        state: part -> its state dict, its names with or without the part's in front, or a published container of
            one; or one flat mapping of names with the part's in front.

    Raises:
        InputError: a name that is of no part, or a value that is no tensor.

    Example:
        >>> parts_of({"fusion.outc.bias": torch.zeros(54), "filter": {"outc.bias": torch.zeros(27)}}).keys()
        dict_keys(['filter', 'fusion'])
    """
    found: dict[str, dict[str, Any]] = {}
    strange = []
    for name, value in state.items():
        part, dot, rest = str(name).partition(".")
        if part in PARTS and dot:
            found.setdefault(part, {})[rest] = value
        elif part in PARTS and isinstance(value, Mapping):
            inner = {str(n).removeprefix(f"{part}."): v for n, v in _unwrapped(value).items()}
            found.setdefault(part, {}).update(inner)
        else:
            strange.append(str(name))
    strange += [f"{p}.{n}" for p, inner in found.items() for n, v in inner.items() if not isinstance(v, Tensor)]
    if strange:
        raise InputError(
            f"expected tensors under the names of JPGNet's parts, {', '.join(PARTS)}; got {', '.join(strange[:5])}"
            f"{' and others' if len(strange) > 5 else ''}. Give {{'generator': ..., 'filter': ..., 'fusion': ...}}."
        )
    return {part: found[part] for part in PARTS if part in found}


def from_original(state: Mapping[str, Any], **options: Any) -> JPGNet:
    """The published code's parameters as a JPGNet in evaluation mode.

    Args:
        state: as `parts_of` takes it: `generator` (EdgeConnect's or RFR's), `filter`, `fusion`, with `edges` or not.
        options: of `JPGNet`; width and generator are read from the names and shapes. Without an edge generator edges
            are `known`; the uncertainty is stretched over the `batch`, as the original does.

    Raises:
        InputError: a part or a name missing, surplus or of another shape.
    """
    parts = parts_of(state)
    if missing := [part for part in ("generator", "filter", "fusion") if part not in parts]:
        raise InputError(
            f"a JPGNet needs generator, filter and fusion, each a file of its own; {', '.join(missing)} missing. "
            "Give them together as {'generator': ..., 'filter': ..., 'fusion': ...}."
        )
    first = parts["filter"].get("conv1.conv1.0.weight")
    seen: dict[str, Any] = {"uncertainty": "batch"}
    if first is not None and first.ndim == 4:
        seen["width"] = first.shape[0]
    if "Pconv1.weight" in parts["generator"]:
        seen["generator"] = "rfr"
    elif options.get("generator", "edgeconnect") == "edgeconnect":
        seen["edges"] = "predicted" if "edges" in parts else "known"
    if options.get("edges", "predicted") != "predicted":  # asked for: they need no generator
        parts.pop("edges", None)
    flat = {f"{part}.{name}": tensor for part, inner in parts.items() for name, tensor in inner.items()}
    chosen = {**seen, **options}
    names = _rename_for(chosen.get("generator", "edgeconnect"))
    return network_from(lambda: JPGNet(**chosen), flat, names)  # type: ignore[return-value]


def to_original(network: JPGNet) -> dict[str, Tensor]:
    """The inverse: all tensors under the original's names, the part's in front; `parts_of` splits them.

    Raises:
        InputError: the generator is one that the published code does not have.
    """
    return dump_original(network, _rename_for(network.kind))


def _unwrapped(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict in a published container, {counter, "generator": state dict, ...}; any other as it is."""
    inner = part.get("generator")
    return inner if isinstance(inner, Mapping) and not {"filter", "fusion"} & set(part) else part
