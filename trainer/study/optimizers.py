"""Optimizers that a study can name. Each builds itself; a new one is a class here, or your own.

A class of your own is named `package.module:Class` in a config.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from jackpot import plugins

if TYPE_CHECKING:
    import torch

_Decay = Annotated[float, Field(ge=0, le=1)]
_Momentum = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(BaseModel):
    """An optimizer's hyper-parameters, all but the learning rate.

    A subclass declares its fields, `name` without a default, and how to build the torch optimizer.
    The trainer sets the learning rate before each step, and finds what the optimizer keeps for
    each weight by walking its `state`. State that does not begin at 0 has to be made in `build`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: str

    @abstractmethod
    def build(self, weights: "Sequence[torch.Tensor]") -> "torch.optim.Optimizer":
        """The torch optimizer over `weights`, all on one device, with learning rate 0.

        `fused=True` saves launches, and `capturable=True` on a GPU lets steps be recorded.
        """


class SGD(Optimizer):
    """SGD with coupled L2, torch's form: v ← μv + g + λw; w ← w − ηv (table E.1)."""

    name: Literal["sgd"]
    momentum: _Momentum = 0.9
    weight_decay: _Decay = 5e-4
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGD":
        if self.nesterov and self.momentum == 0:
            message = "Nesterov's rule needs a momentum above 0"
            raise PydanticCustomError(
                "study", "{message}", {"message": message, "at": ["nesterov"]}
            )
        return self

    def build(self, weights: "Sequence[torch.Tensor]") -> "torch.optim.Optimizer":
        """`torch.optim.SGD`."""
        import torch

        return torch.optim.SGD(
            weights,
            lr=0.0,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=True,
        )


class _Moments(Optimizer):
    """What Adam and AdamW have in common: moments of the gradient."""

    beta1: _Momentum = 0.9
    beta2: _Momentum = 0.999
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8

    def _options(self, weights: "Sequence[torch.Tensor]") -> dict[str, Any]:
        return {
            "lr": 0.0,
            "betas": (self.beta1, self.beta2),
            "eps": self.epsilon,
            "fused": True,
            "capturable": weights[0].device.type == "cuda",
        }


class Adam(_Moments):
    """Adam (Kingma and Ba 2015); weight decay is coupled: it is added to the gradient."""

    name: Literal["adam"]
    weight_decay: _Decay = 0.0

    def build(self, weights: "Sequence[torch.Tensor]") -> "torch.optim.Optimizer":
        """`torch.optim.Adam`."""
        import torch

        options = self._options(weights)
        return torch.optim.Adam(weights, weight_decay=self.weight_decay, **options)


class AdamW(_Moments):
    """AdamW (Loshchilov and Hutter 2019); weight decay is decoupled: w ← w − ηλw."""

    name: Literal["adamw"]
    weight_decay: _Decay = 0.01

    def build(self, weights: "Sequence[torch.Tensor]") -> "torch.optim.Optimizer":
        """`torch.optim.AdamW`."""
        import torch

        options = self._options(weights)
        return torch.optim.AdamW(weights, weight_decay=self.weight_decay, **options)


OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType(
    {"sgd": SGD, "adam": Adam, "adamw": AdamW}
)


def chosen(value: Any) -> Any:
    """The optimizer that a config's mapping describes, checked by the class that its name names.

    Raises:
        ValidationError: a field that the class does not have, or a value that it does not take.
        PydanticCustomError: an unknown name.
        PluginError: an optimizer of a user's own that cannot be imported.
    """
    if not isinstance(value, Mapping):
        return value
    # Configs are older than the other optimizers: one that says none means SGD. The name is filled
    # in here, so that it is part of all that follows.
    name = value.get("name", "sgd")
    if name in OPTIMIZERS:
        return OPTIMIZERS[name].model_validate({**value, "name": name})
    if not isinstance(name, str) or not plugins.is_plugin(name):
        raise PydanticCustomError(
            "unknown_name", "unknown optimizer", {"choices": list(OPTIMIZERS), "at": ["name"]}
        )
    return _own(name).model_validate(value)


def _own(name: str) -> type[Optimizer]:
    found = plugins.load("optimizer", name, type)
    if not issubclass(found, Optimizer) or getattr(found.build, "__isabstractmethod__", False):
        raise plugins.PluginError(
            f"optimizer '{name}': expected a subclass of trainer.study.optimizers.Optimizer with "
            "a method build"
        )
    if not found.model_fields["name"].is_required():
        raise plugins.PluginError(
            f"optimizer '{name}': its field 'name' has a default; declare it as name: str"
        )
    return found
