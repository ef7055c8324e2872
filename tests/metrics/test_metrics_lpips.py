"""LPIPS on random trunks: the paper's equation as a loop, torchmetrics' own module as judge; the published heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_metrics_networks import randomised
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.metrics import MissingWeights, create
from cicm.metrics.lpips import LPIPS, TRUNKS, load_heads, load_lpips
from cicm.metrics.pixels import quantised
from cicm.metrics.trunks import Trunk

NETS = list(TRUNKS)


def random_trunk(net: str) -> Trunk:
    trunk = randomised(TRUNKS[net][0].build())
    assert isinstance(trunk, Trunk)
    return trunk


@pytest.fixture(scope="module", params=NETS)
def judged(request: pytest.FixtureRequest) -> tuple[str, Trunk]:
    return request.param, random_trunk(request.param)


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 3, 64, 70, generator=generator)
    return (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1), image


def test_equals_the_papers_equation_as_a_loop(judged: tuple[str, Trunk]) -> None:
    net, trunk = judged
    composite, image = pair()
    heads = load_heads(net)
    ours = LPIPS(trunk, heads)(composite, image)

    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def prepared(x: Tensor) -> Tensor:
        x = 2 * x - 1
        return (x - shift.view(3, 1, 1)) / scale.view(3, 1, 1)

    for index in range(2):
        total = 0.0
        with torch.no_grad():
            maps = zip(trunk(prepared(composite[index : index + 1])), trunk(prepared(image[index : index + 1])), heads)
        for a, b, weights in maps:
            layer = 0.0
            rows, columns = a.shape[2:]
            for i in range(rows):
                for j in range(columns):
                    u, v = a[0, :, i, j].double(), b[0, :, i, j].double()
                    difference = u / u.norm() - v / v.norm()
                    layer += (weights.double() * difference**2).sum().item()
            total += layer / (rows * columns)
        # 1e-4: float32 features against float64 arithmetic
        assert ours[index].item() == pytest.approx(total, rel=1e-4)


def test_agrees_with_torchmetrics_on_the_same_trunk(judged: tuple[str, Trunk], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slices, scaling layer and copies of the heads are independent of ours; only the convolutions are shared."""
    judge = pytest.importorskip("torchmetrics.functional.image.lpips")
    net, trunk = judged
    monkeypatch.setattr(judge, "_get_tv_model_features", lambda *_: trunk.features)
    theirs = judge._LPIPS(pretrained=True, net=net, pnet_rand=True)
    composite, image = pair()
    with torch.no_grad():
        expected = theirs(composite, image, normalize=True).flatten()
    # 1e-4: it adds 1e-8 under the root of the length, the original 1e-10 behind it
    torch.testing.assert_close(LPIPS(trunk, load_heads(net))(composite, image), expected, rtol=1e-4, atol=1e-7)


def test_laws(judged: tuple[str, Trunk]) -> None:
    net, trunk = judged
    composite, image = pair()
    network = LPIPS(trunk, load_heads(net))
    assert network(image, image).tolist() == [0.0, 0.0]
    assert torch.equal(network(composite, image), network(image, composite))
    assert (network(composite, image) > 0).all()


def test_heads_fit_the_trunk_and_are_not_negative() -> None:
    for net in NETS:
        heads = load_heads(net)
        with torch.device("meta"):
            trunk = TRUNKS[net][0].build()
        assert tuple(map(len, heads)) == trunk.channels, net
        assert all((head >= 0).all() and head.max() > 0 for head in heads), net


def test_heads_are_those_that_torchmetrics_ships() -> None:
    for net in NETS:
        judge = pytest.importorskip("torchmetrics.functional.image.lpips")
        file = Path(judge.__file__).parent / "lpips_models" / f"{net}.pth"
        theirs = torch.load(file, weights_only=True, map_location="cpu")
        ours = load_heads(net)
        assert len(ours) == len(theirs), net
        assert all(torch.equal(head, theirs[f"lin{i}.model.1.weight"].flatten()) for i, head in enumerate(ours)), net


def test_heads_are_the_originals(shared: Path) -> None:
    for net in NETS:
        original = torch.load(shared / f"data/weights/lpips/v0.1/{net}.pth", weights_only=True, map_location="cpu")
        ours = load_heads(net)
        assert len(ours) == len(original), net
        assert all(torch.equal(head, original[f"lin{i}.model.1.weight"].flatten()) for i, head in enumerate(ours)), net


def test_bad_heads_are_refused() -> None:
    trunk = TRUNKS["squeeze"][0].build()
    assert isinstance(trunk, Trunk)
    heads = load_heads("squeeze")
    with pytest.raises(InputError, match="the heads must have"):
        LPIPS(trunk, load_heads("alex"))
    with pytest.raises(InputError, match="negative"):
        LPIPS(trunk, [*heads[:-1], -heads[-1]])
    with pytest.raises(InputError, match="known are alex, vgg, squeeze"):
        load_heads("resnet")


@pytest.mark.parametrize("net", NETS)
def test_without_the_trunks_file_there_is_no_lpips(nowhere: Path, net: str) -> None:
    with pytest.raises(
        MissingWeights,
        match=r"cicm models get \w+, or put https://download\.pytorch\.org".replace(r"\w+,", r"\w+`,"),
    ):
        load_lpips(net)
    metric = create(f"lpips-{net}")
    reason = metric.available()
    assert reason is not None
    assert TRUNKS[net][1].removesuffix("1_1") in reason
    composite, image = pair()
    with pytest.raises(MissingWeights):
        metric.update(composite, image)
    assert metric.num_images == 0


def test_with_the_file_it_is_computed(nowhere: Path, tmp_path: Path, publish: Callable[[str, Path], None]) -> None:
    trunk = random_trunk("squeeze")
    classifier = {"classifier.1.weight": torch.zeros(1000, 512, 1, 1), "classifier.1.bias": torch.zeros(1000)}
    torch.save({**trunk.state_dict(), **classifier}, tmp_path / "trunk.pth")
    publish("squeezenet1_1", tmp_path / "trunk.pth")
    composite, image = pair()
    metric = create("lpips-squeeze", path=tmp_path)
    assert metric.available() is None
    values = metric.update(composite, image)
    from cicm.metrics import to_8bit

    expected = LPIPS(trunk, load_heads("squeeze"))(to_8bit(composite), to_8bit(image))
    assert values is not None
    # 1e-6: to_8bit in float64 and in float32 differ in the last digit
    torch.testing.assert_close(values.float(), expected, rtol=1e-5, atol=1e-6)
    assert metric.compute() == pytest.approx(expected.mean().item(), rel=1e-5)
    assert metric.protocol["version"] == "0.1"


def test_unscaled_feeds_the_values_as_they_are(
    nowhere: Path, tmp_path: Path, publish: Callable[[str, Path], None]
) -> None:
    """The mistake of some published tables, reproduced: [0, 1] where [-1, 1] belongs."""
    trunk = random_trunk("squeeze")
    torch.save(trunk.state_dict(), tmp_path / "trunk.pth")
    publish("squeezenet1_1", tmp_path / "trunk.pth")
    composite, image = (quantised(picture) for picture in pair())
    metric = create("lpips-squeeze", path=tmp_path, scaled=False)
    values = metric.update(composite, image)
    network = LPIPS(trunk, load_heads("squeeze"))

    class Identity(LPIPS):
        def _maps(self, image: Tensor) -> list[Tensor]:
            return self.trunk((image - self.shift) / self.scale)

    expected = Identity(trunk, load_heads("squeeze"))(composite, image)
    assert values is not None
    torch.testing.assert_close(values.float(), expected, rtol=1e-4, atol=1e-6)  # (x + 1) / 2 and back in float32
    assert not torch.allclose(expected, network(composite, image), rtol=1e-2)
    assert "do not expect" in metric.protocol["input"]


def test_a_pickle_with_code_is_not_run(nowhere: Path, tmp_path: Path, publish: Callable[[str, Path], None]) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"features.0.weight": Evil()}, tmp_path / "trunk.pth")
    publish("alexnet", tmp_path / "trunk.pth")
    with pytest.raises(InputError, match="must hold tensors by name"):
        load_lpips("alex", path=tmp_path / "trunk.pth")
    assert not (tmp_path / "ran").exists()


def test_a_trunk_of_another_network_is_refused(
    nowhere: Path, tmp_path: Path, publish: Callable[[str, Path], None]
) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)).state_dict(), tmp_path / "trunk.pth")
    publish("vgg16", tmp_path / "trunk.pth")
    with pytest.raises(InputError, match="does not fit the network"):
        load_lpips("vgg", path=tmp_path / "trunk.pth")
