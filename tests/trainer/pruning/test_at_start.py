"""Scores at initialisation against networks written out in torch, and against closed forms."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from examples import fisher
from tests.trainer.networks.twins import TWINS, Twin
from trainer import networks, pruning
from trainer.keras_internals import in_float64
from trainer.pruning import at_start, masks
from trainer.pruning.look import Look
from trainer.store.ticket import fill

Forward = Callable[[Twin, Tensor], Tensor]
# Three blocks of each kind are enough for most; the other has residual connections as well.
NETWORKS = ["lenet", "resnet20 without", pytest.param("resnet20", marks=pytest.mark.slow)]


class Evaluated(Twin):
    """A twin in evaluation mode: fresh running statistics are mean 0 and variance 1."""

    def norm(self, x: Tensor, name: str) -> Tensor:
        scale, shift = self.weights[f"{name}/gamma"], self.weights[f"{name}/beta"]
        return x / (1 + 1e-5) ** 0.5 * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def seen(name: str, count: int = 60) -> tuple[Look, Forward, Tensor, Tensor]:
    """A look at a fresh network with its images, and the twin's forward pass."""
    network, shape, forward = TWINS[name]
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, *shape, generator=generator)
    labels = torch.arange(count) % 10

    model = networks.build(network, input_shape=shape, classes=10, seed=3)

    def build(precision: str) -> keras.Model:
        with in_float64() if precision == "float64" else nullcontext():
            made = networks.build(network, input_shape=shape, classes=10, seed=3)
        fill(made, {v.path: v.numpy() for v in model.variables}, "the test")
        return made

    found = networks.find(network)
    weights = masks.kernels(model, masks.pruned_paths(model, found.pruned, found.kept))

    def batches():
        yield from zip(images.split(25), labels.split(25), strict=True)

    return Look(weights, None, build, batches, 5), forward, images, labels


def agree(scores: dict[str, np.ndarray], expected: dict[str, Tensor], rtol: float) -> None:
    """Scores in Keras's layout against tensors in torch's."""
    assert list(scores) == [path for path in expected if path in scores]
    for path, found in scores.items():
        tensor = expected[path]
        order = (1, 0) if tensor.ndim == 2 else (2, 3, 1, 0)
        other = tensor.permute(order).detach().numpy()
        np.testing.assert_allclose(found, other, rtol, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize("name", NETWORKS[:1])
def test_a_step_sees_no_gradients_of_the_step_before(name: str):
    look, *_ = seen(name, 60)
    before = fisher.score(look)
    mask = masks.prune(before, 0.5)
    alone, *_ = seen(name, 60)
    again = fisher.score(look.under(mask))
    expected = fisher.score(alone.under(mask))
    for path, score in expected.items():
        np.testing.assert_array_equal(again[path], score)
        assert not np.array_equal(again[path], before[path])


@pytest.mark.parametrize("name", NETWORKS)
def test_snip_is_the_gradient_times_the_weights_of_a_torch_network(name: str):
    look, forward, images, labels = seen(name, 130)
    twin = Evaluated({v.path: v.value.double() for v in look.network.trainable_variables})
    # Ten of each class: the first hundred.
    loss = F.cross_entropy(forward(twin, images[:100].double()), labels[:100])
    gradients = torch.autograd.grad(loss, list(twin.weights.values()))
    expected = {
        path: (g * w).abs() for (path, w), g in zip(twin.weights.items(), gradients, strict=True)
    }
    agree(at_start.snip(look), {p: expected[p] for p in look.weights}, 1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_grasp_is_the_weights_times_hessian_times_gradient_of_a_torch_network(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(at_start, "_OF_EACH_CLASS", 4)
    look, forward, images, labels = seen(name, 40)
    twin = Twin({v.path: v.value.double() for v in look.network.trainable_variables})
    images = images.double()
    halves = [torch.tensor([c + 10 * i for c in range(10) for i in range(h, 4, 2)]) for h in (0, 1)]
    paths = list(look.weights)

    def loss(kernels: tuple[Tensor, ...]) -> Tensor:
        other = Twin.__new__(Twin)
        other.weights = twin.weights | dict(zip(paths, kernels, strict=True))
        return sum(
            F.cross_entropy(forward(other, images[half]) / 200.0, labels[half]) for half in halves
        )

    at = tuple(twin.weights[path] for path in paths)
    gradient = torch.autograd.grad(loss(at), at)
    # An independent way to the product: the derivative of the gradient along the gradient.
    _, product = torch.autograd.functional.hvp(lambda *k: loss(k), at, gradient)
    expected = {p: w * h for p, w, h in zip(paths, at, product, strict=True)}
    agree(at_start.grasp(look), expected, 1e-6)


def test_grasp_prunes_what_the_paper_prunes():
    """Equation 8: S(−θ) = −θ ⊙ H g, and the highest are removed."""
    look, *_ = seen("lenet", 100)
    scores = at_start.grasp(look)
    mask = pruning.find("grasp").mask(look, 0.7, "grasp")
    pruned = np.concatenate([-scores[p][~mask[p]] for p in mask])
    kept = np.concatenate([-scores[p][mask[p]] for p in mask])
    assert pruned.min() >= kept.max()


def test_synflow_of_a_dense_network_is_its_sum_over_paths():
    """Closed form: with |w| and ReLU all is linear; R is the sum over paths of their products."""
    look, *_ = seen("lenet")
    w = {v.path: np.abs(v.numpy()).astype(np.float64) for v in look.network.trainable_variables}
    first, second, last = (w[f"{n}/kernel"] for n in ("hidden1", "hidden2", "classifier"))
    reach = last.sum(1)
    inputs = np.ones(first.shape[0])
    scores = at_start.synflow(look)
    np.testing.assert_allclose(
        scores["hidden1/kernel"], inputs[:, None] * first * (second @ reach)[None], rtol=1e-9
    )
    hidden = inputs @ first + w["hidden1/bias"]
    np.testing.assert_allclose(
        scores["hidden2/kernel"], hidden[:, None] * second * reach[None], rtol=1e-9
    )
    # Conservation (theorem 2 of the paper), biases being 0 at the start: what flows in flows out.
    np.testing.assert_allclose(scores["hidden1/kernel"].sum(0), scores["hidden2/kernel"].sum(1))


@pytest.mark.parametrize("name", ["resnet20 without", "resnet20"])
def test_synflow_is_that_of_a_torch_network_in_float64(name: str):
    look, forward, images, _ = seen(name)
    twin = Evaluated({v.path: v.value.double().abs() for v in look.network.trainable_variables})
    result = forward(twin, torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum()
    paths = list(look.weights)
    gradients = torch.autograd.grad(result, [twin.weights[p] for p in paths])
    expected = {p: g * twin.weights[p] for p, g in zip(paths, gradients, strict=True)}
    agree(at_start.synflow(look), expected, 1e-6)


@pytest.mark.slow  # Builds ResNet-50.
def test_synflow_stays_finite_where_float32_does_not():
    """ResNet-50: R is beyond float32's largest number."""
    look, *_ = seen("resnet50", 1)
    scores = at_start.synflow(look)
    assert all(np.isfinite(array).all() for array in scores.values())
    assert max(array.max() for array in scores.values()) > 3.4e38


@pytest.mark.parametrize("name", ["synflow", "iterative_snip"])
def test_steps_go_down_in_equal_ratios_and_nothing_comes_back(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    look, *_ = seen("lenet", 100)
    row, densities, seen_masks = pruning.find(name), [], []

    def score(at: Look) -> dict[str, np.ndarray]:
        alive = at.mask or {p: np.ones(w.shape, bool) for p, w in at.weights.items()}
        seen_masks.append(alive)
        densities.append(sum(int(m.sum()) for m in alive.values()))
        for path, entry in alive.items():
            assert not at.weights[path][~entry].any()
            (there,) = [v for v in at.network.variables if v.path == path]
            np.testing.assert_array_equal(there.numpy() != 0, at.weights[path] != 0)
        return row.score(at)

    mask = replace(row, score=score).mask(look, 0.99, name)
    total = sum(w.size for w in look.weights.values())
    assert len(densities) == 100
    assert densities == [
        total - int(np.floor((1 - 0.01 ** (k / 100)) * total + 0.5)) for k in range(100)
    ]
    assert sum(int(m.sum()) for m in mask.values()) == total - round(0.99 * total)
    for before, after in zip(seen_masks, [*seen_masks[1:], mask], strict=True):
        assert all((before[path] | ~after[path]).all() for path in after)


def test_many_steps_collapse_later_than_one():
    """The published ordering (Tanaka et al. 2020, figure 1).

    One step of SNIP or magnitude empties a layer of a deep network at sparsities at which SynFlow's
    steps leave weights in each.
    """
    look, *_ = seen("resnet20 without", 100)
    least = {}
    for name in ("synflow", "snip", "magnitude_init"):
        mask = pruning.find(name).mask(look, 0.9995, name)
        least[name] = min(int(entry.sum()) for entry in mask.values())
    assert least["synflow"] > 0
    assert least["snip"] == 0 or least["magnitude_init"] == 0


@pytest.mark.parametrize(
    "name",
    [n for n, row in pruning.PRUNERS.items() if not row.looks_at_end],
)
@pytest.mark.parametrize("sparsity", [0.1, 0.95])
def test_every_pruner_at_initialisation_prunes_exactly_as_many(name: str, sparsity: float):
    look, *_ = seen("lenet", 100)
    mask = pruning.find(name).mask(look, sparsity, name)
    total = sum(entry.size for entry in mask.values())
    assert sum(int((~entry).sum()) for entry in mask.values()) == int(sparsity * total + 0.5)
    opposite = pruning.find(name).mask(look, sparsity, name, inverted=True)
    assert sum(int((~entry).sum()) for entry in opposite.values()) == int(sparsity * total + 0.5)
    if name in ("snip", "grasp", "magnitude_init") and sparsity >= 0.5:
        assert not any((mask[path] & opposite[path]).any() for path in mask), "they share nothing"


def test_random_masks_depend_on_the_seed_alone():
    look, *_ = seen("lenet")
    other = Look({p: -w for p, w in look.weights.items()}, seed=5)
    third = Look(look.weights, seed=6)
    one, two, three = (pruning.find("erk").mask(at, 0.9, "erk") for at in (look, other, third))
    assert all((one[path] == two[path]).all() for path in one)
    assert any((one[path] != three[path]).any() for path in one)


def test_images_of_each_class_are_the_first_of_the_pass():
    look, _, images, labels = seen("lenet", 60)
    chosen, of = look.of_each_class(4)
    assert torch.bincount(of, minlength=10).tolist() == [4] * 10
    torch.testing.assert_close(chosen, images[:40])
    torch.testing.assert_close(of, labels[:40])
    all_there_is, _ = look.of_each_class(50)
    assert len(all_there_is) == 60


class Subclassed(keras.Model):
    """Two dense layers, and no graph."""

    def __init__(self) -> None:
        super().__init__(name="mine")
        self.hidden = keras.layers.Dense(7, activation="relu", name="hidden")
        self.head = keras.layers.Dense(3, name="head")

    def call(self, x):
        return self.head(self.hidden(x))


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_networks_that_are_no_graph_are_scored(name: str):
    """As the same layers in a graph."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.standard_normal((30, 5)).astype("float32"))
    labels = torch.arange(30) % 3
    values: dict[str, np.ndarray] = {}

    def subclassed() -> keras.Model:
        model = Subclassed()
        model(torch.zeros(1, 5))
        return model

    def graph() -> keras.Model:
        layers = [keras.layers.Dense(7, activation="relu", name="hidden")]
        layers.append(keras.layers.Dense(3, name="head"))
        return keras.Sequential([keras.Input((5,)), *layers], name="mine")

    found = []
    for make in (subclassed, graph):

        def build(precision: str, make=make) -> keras.Model:
            with in_float64() if precision == "float64" else nullcontext():
                model = make()
            for variable in model.variables:
                key = "/".join(variable.path.split("/")[-2:])
                values.setdefault(key, rng.standard_normal(variable.shape).astype("float32"))
                variable.assign(values[key])
            return model

        weights = {v.path: v.numpy() for v in build("float32").variables if "kernel" in v.path}
        look = Look(weights, None, build, lambda: iter([(images, labels)]), 5)
        scores = getattr(at_start, name)(look)
        found.append({"/".join(p.split("/")[-2:]): score for p, score in scores.items()})
    for path, score in found[0].items():
        np.testing.assert_allclose(score, found[1][path], rtol=1e-9)
        assert np.abs(score).max() > 0
