"""What a layer costs that Keras computes instead of a torch call: time on the host.

    python -m benchmarks.layers

ResNet-20 on two images of 8 × 8 pixels, where computing takes next to no time: training steps
lowered, and with every layer computed by Keras, in turns.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks import record
from trainer import networks
from trainer.study.optimizers import SGD
from trainer.training import lowering
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel


def stepped() -> SteppedModel:
    """A small step."""
    network = networks.build("resnet20", input_shape=(8, 8, 3), classes=10)
    return SteppedModel(
        Member(network, TrainingState.fresh(network, SGD(name="sgd")), lambda step: 1e-3)
    )


def refuse(layer: Any, *_: Any) -> lowering.Call:
    """Leaves every layer to Keras."""
    raise lowering.CannotLower(layer.name)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    ours, known = stepped(), lowering._call
    lowering._call = refuse
    by_keras = stepped()
    lowering._call = known
    layers = by_keras.stepper.lowered.keras_layers
    batch = torch.randn(2, 8, 8, 3), torch.zeros(2, dtype=torch.int64)
    times: dict[str, list[float]] = {"ours": [], "keras": []}
    for _ in range(20):
        for name, model in (("ours", ours), ("keras", by_keras)):
            began = time.process_time()
            for _ in range(5):
                model.train_step(batch)
            times[name].append((time.process_time() - began) / 5)
    lowered, whole = (1000 * statistics.median(values) for values in times.values())
    each = (whole - lowered) / layers
    print(f"{layers} layers: {lowered:.1f} ms lowered, {whole:.1f} ms by Keras, {each:.2f} ms each")
    record.keep("layers", [{"layers": layers, "lowered_ms": lowered, "keras_ms": whole}])


if __name__ == "__main__":
    main()
