"""Mixup, and no decay on batch norm: against steps written out by hand."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainer import networks
from trainer.study import schedule
from trainer.study.config import Training
from trainer.study.optimizers import SGD, Adam
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel
from trainer.training.stepper import _mixed

SHAPE = (8, 8, 1)


def network(seed: int, name: str = "lenet-300-100") -> keras.Model:
    return networks.build(name, input_shape=SHAPE, classes=10, seed=seed)


def test_an_image_is_mixed_with_another_of_its_batch():
    images = torch.tensor([0.0, 10.0, 100.0]).view(3, 1, 1, 1).expand(3, 1, 1, 4)
    # Two networks of two channels: shares of 0.75 and 0.5.
    mixed = _mixed(images, torch.tensor([0.75, 0.5]))[:, 0, 0]
    expected = [[25, 25, 50, 50], [10, 10, 10, 10], [75, 75, 50, 50]]
    torch.testing.assert_close(mixed, torch.tensor(expected, dtype=torch.float32))


def test_a_step_is_that_of_the_mixed_loss_with_smoothed_targets():
    """The targets that the authors' scripts make: one-hot, smoothed, then mixed."""
    model, images, labels = network(1), torch.randn(5, *SHAPE), torch.tensor([1, 2, 3, 4, 5])
    before = {v.path: v.value.detach().clone().requires_grad_() for v in model.variables}
    share, smoothing, rate = 0.3, 0.1, 0.5
    targets = F.one_hot(labels, 10) * (1 - smoothing) + smoothing / 10
    targets = share * targets + (1 - share) * targets.flip(0)
    x = (share * images + (1 - share) * images.flip(0)).flatten(1)
    for name in ("hidden1", "hidden2"):
        x = (x @ before[f"{name}/kernel"] + before[f"{name}/bias"]).relu()
    logits = x @ before["classifier/kernel"] + before["classifier/bias"]
    loss = -(targets * logits.log_softmax(1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(before.values()))

    state = TrainingState.fresh(model, SGD(name="sgd", momentum=0.0, weight_decay=0.0))
    member = Member(model, state, lambda step: rate, lambda step: share)
    stepped = SteppedModel(member, label_smoothing=smoothing)
    stepped.train_step((images, labels))
    for (path, weight), gradient in zip(before.items(), gradients, strict=True):
        torch.testing.assert_close(state.weights[path], weight - rate * gradient)
    found = stepped.get_metrics_result()
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    right, other = ((logits.argmax(1) == t).float().mean() for t in (labels, labels.flip(0)))
    assert found["accuracy"] == pytest.approx((share * right + (1 - share) * other).item())


def test_networks_side_by_side_mix_by_their_own_shares():
    images, labels = torch.randn(6, 8, 8, 2), torch.randint(0, 10, (6, 2))
    shares = (0.2, 0.9)

    def member(k: int) -> Member:
        model = network(k)
        state = TrainingState.fresh(model, SGD(name="sgd"))
        return Member(model, state, lambda step: 0.1, lambda step: shares[k])

    together = SteppedModel(member(0), member(1))
    together.train_step((images, labels))
    for k in (0, 1):
        alone = SteppedModel(member(k))
        alone.train_step((images[..., k : k + 1], labels[:, k]))
        for path, weight in alone.members[0].state.weights.items():
            torch.testing.assert_close(together.members[k].state.weights[path], weight)


def test_shares_follow_their_distribution_and_the_trial():
    training = Training(epochs=50, batch_size=8, mixup=0.2)
    share = schedule.mixup_shares(training, seed=3, trial=1, steps_per_epoch=200)
    drawn = np.array([share(step) for step in range(10_000)])
    # Beta(α, α) has mean 1/2 and variance 1 / (4 (2α + 1)).
    assert drawn.mean() == pytest.approx(0.5, abs=4 * (0.1786 / 10_000) ** 0.5)
    assert drawn.var() == pytest.approx(1 / (4 * 1.4), rel=0.05)
    again = schedule.mixup_shares(training, seed=3, trial=1, steps_per_epoch=200)
    assert [again(step) for step in (9_999, 0, 777)] == drawn[[9_999, 0, 777]].tolist()
    other = schedule.mixup_shares(training, seed=3, trial=2, steps_per_epoch=200)
    assert other(0) != drawn[0]
    assert schedule.mixup_shares(Training(epochs=2, batch_size=8), 3, 1, 200) is None


@pytest.mark.parametrize(
    "optimizer", [SGD(name="sgd", weight_decay=0.5), Adam(name="adam", weight_decay=0.5)]
)
def test_decay_leaves_batch_norm_alone(optimizer):
    """Without gradients a step moves what decays, and nothing else."""
    for decays in (True, False):
        model = network(1, "resnet20")
        state = TrainingState.fresh(model, optimizer, decay_batch_norm=decays)
        before = {path: weight.detach().clone() for path, weight in state.weights.items()}
        for weight in state.weights.values():
            weight.grad = torch.zeros_like(weight)
        state.step(0.1)
        moved = {p for p, w in state.weights.items() if not torch.equal(w, before[p])}
        # Offsets are 0: there is nothing to decay.
        expected = {p for p in before if not p.endswith("/beta")}
        assert moved == (expected if decays else {p for p in expected if "norm" not in p})
        assert len(state.tensors()) > 2 * len(state.weights), "all have what the optimizer keeps"


def test_a_study_with_the_recipe_is_trained_side_by_side(write_config, train, store_uri):
    from tests.trainer import stored

    training = "{epochs: 2, batch_size: 64, mixup: 0.2, label_smoothing: 0.1,"
    config = write_config(
        settings="[pretrain]",
        network="resnet20",
        dataset="{name: digits, train_images: 128, test_images: 50}",
        learning_rates="[0.05, 0.1]",
        training=training + " decay_batch_norm: false}",
        fuse="2",
    )
    assert train(config) == 0
    runs = stored.runs(store_uri)
    assert len(runs) == 2
    for run in runs:
        assert run.data.params["mixup"] == "0.2"
        assert run.data.params["decay_batch_norm"] == "False"
        assert run.data.tags["fused"] == "2"
