"""Optimizers: torch's own numbers, alone, side by side, and after a break."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from trainer import networks
from trainer.study.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

RATES = [0.02, 0.01, 0.005, 0.002]
# What torch calls the same hyper-parameters.
CASES = [
    (
        SGD(name="sgd", momentum=0.8, weight_decay=0.01, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.0, 0.8, weight_decay=0.01, nesterov=True),
    ),
    (Adam(name="adam"), lambda p: torch.optim.Adam(p, 0.0)),
    (
        Adam(name="adam", beta1=0.8, beta2=0.9, epsilon=1e-4, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.0, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1),
    ),
    (AdamW(name="adamw"), lambda p: torch.optim.AdamW(p, 0.0)),
    (
        AdamW(name="adamw", beta1=0.8, epsilon=1e-4, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, 0.0, betas=(0.8, 0.999), eps=1e-4, weight_decay=0.1),
    ),
]
BY_NAME = [pytest.param(kind(name=name), id=name) for name, kind in OPTIMIZERS.items()]


def members(optimizer: Optimizer, count: int, seed: int = 0) -> list[Member]:
    found = []
    for k in range(count):
        network = networks.build("lenet-300-100", input_shape=(8, 8, 1), classes=10, seed=seed + k)
        state = TrainingState.fresh(network, optimizer)
        found.append(Member(network, state, lambda step, k=k: RATES[step] / (k + 1)))
    return found


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(0)
    return [
        (
            torch.from_numpy(rng.normal(size=(16, 8, 8, count)).astype(np.float32)),
            torch.from_numpy(rng.integers(0, 10, (16, count))),
        )
        for _ in RATES
    ]


def in_torch(member: Member) -> nn.Sequential:
    """LeNet-300-100 written down in torch, at the same weights."""
    network = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU())
    network.append(nn.Linear(100, 10))
    for layer, name in zip(network[::2], ("hidden1", "hidden2", "classifier"), strict=True):
        layer.weight.data = member.state.weights[f"{name}/kernel"].detach().T.clone()
        layer.bias.data = member.state.weights[f"{name}/bias"].detach().clone()
    return network


@pytest.mark.parametrize(("optimizer", "torchs"), CASES)
def test_steps_are_those_of_a_loop_in_torch(optimizer, torchs):
    (member,) = members(optimizer, 1)
    plain = in_torch(member)
    theirs = torchs(plain.parameters())
    model = SteppedModel(member)
    for step, (images, labels) in enumerate(batches(1)):
        model.train_step((images, labels))
        theirs.param_groups[0]["lr"] = RATES[step]
        theirs.zero_grad()
        nn.functional.cross_entropy(plain(images.flatten(1)), labels[:, 0]).backward()
        theirs.step()
    for layer, name in zip(plain[::2], ("hidden1", "hidden2", "classifier"), strict=True):
        ours = member.state.weights[f"{name}/kernel"].detach()
        # Adam divides by √v: where a gradient is near 0, the last bits of it decide the step.
        torch.testing.assert_close(ours, layer.weight.data.T, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("optimizer", BY_NAME)
def test_side_by_side_each_trains_as_alone(optimizer):
    joined, alone, data = members(optimizer, 3), members(optimizer, 3), batches(3)
    together = SteppedModel(*joined)
    for batch in data:
        together.train_step(batch)
    for k, member in enumerate(alone):
        single = SteppedModel(member)
        for images, labels in data:
            single.train_step((images[..., k : k + 1], labels[:, k]))
        for path, tensor in member.state.tensors().items():
            close = {"rtol": 1e-4, "atol": 2e-6}
            torch.testing.assert_close(joined[k].state.tensors()[path], tensor, **close)


@pytest.mark.parametrize("optimizer", BY_NAME)
@pytest.mark.parametrize("count", [1, 2])
def test_a_training_that_goes_on_from_its_state_ends_with_the_same_bits(optimizer, count):
    whole, before, after = (members(optimizer, count, seed) for seed in (0, 0, 7))
    data = batches(count)
    for found, part in ((whole, data), (before, data[:2])):
        model = SteppedModel(*found)
        for batch in part:
            model.train_step(batch)
    for old, new in zip(before, after, strict=True):
        new.state.load(copy.deepcopy(old.state.arrays()), old.state.steps)
    model = SteppedModel(*after)
    for batch in data[2:]:
        model.train_step(batch)
    for undisturbed, resumed in zip(whole, after, strict=True):
        for path, tensor in undisturbed.state.tensors().items():
            assert torch.equal(resumed.state.tensors()[path], tensor), path


def test_what_an_optimizer_keeps_is_found_and_begins_at_zero():
    kept = {
        name: {
            path.split("/")[0]
            for path, tensor in members(kind(name=name), 1)[0].state.tensors().items()
            if not path.startswith(("weights/", "statistics/")) and not tensor.any()
        }
        for name, kind in OPTIMIZERS.items()
    }
    assert kept == {
        "sgd": {"momentum"},
        "adam": {"exp_avg", "exp_avg_sq", "step"},
        "adamw": {"exp_avg", "exp_avg_sq", "step"},
    }


def test_sgd_keeps_the_names_that_checkpoints_of_before_have():
    """Those of commit 2e8229f and earlier: weights, statistics, and a momentum for each weight."""
    (member,) = members(SGD(name="sgd"), 1)
    layers = ("hidden1", "hidden2", "classifier")
    assert list(member.state.arrays()) == [
        f"{kind}/{layer}/{variable}"
        for kind in ("weights", "momentum")
        for layer in layers
        for variable in ("kernel", "bias")
    ]


def test_a_mask_holds_whatever_the_optimizer_does():
    for name, kind in OPTIMIZERS.items():
        (member,) = members(kind(name=name), 1)
        mask = {"hidden1/kernel": np.arange(64 * 300).reshape(64, 300) % 3 == 0}
        member.state.keep_masked(mask)
        model = SteppedModel(member)
        before = member.state.weights["hidden1/kernel"].detach().clone()
        for batch in batches(1):
            model.train_step(batch)
            now = member.state.weights["hidden1/kernel"].detach().numpy()
            assert (now[~mask["hidden1/kernel"]] == 0.0).all()
        assert (before.numpy() != now)[mask["hidden1/kernel"]].all()
