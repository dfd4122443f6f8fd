"""Whether a network has residual connections, found in its graph."""

import keras

from trainer.keras_internals import functional, in_order


def has_residuals(model: keras.Model) -> bool | None:
    """Whether a sum joins two ways through the network that pass different numbers of kernels.

    That is a residual connection (He et al. 2016): the shorter way is the shortcut, with or without
    a projection. Towers of equal depth that are summed are none, and neither are ways that are
    concatenated.

    Args:
        model: built.

    Returns:
        None for a network that is no functional model: it has no graph to look at.

    Example:
        >>> inputs = keras.Input((4,))
        >>> deeper = keras.layers.Dense(4)(inputs)
        >>> has_residuals(keras.Model(inputs, inputs + deeper))
        True
    """
    graph = functional(model)
    if graph is None:
        return None
    passed: dict[int, int] = {}
    for node in in_order(graph):
        operation, inputs = node.operation, node.arguments.keras_tensors
        before = [passed[id(x)] for x in inputs]
        if type(operation).__name__ == "Add" and len(set(before)) > 1:
            return True
        if isinstance(operation, keras.Model) and has_residuals(operation):
            return True
        kernels = sum(v.path.endswith("kernel") for v in getattr(operation, "variables", []))
        for output in node.outputs:
            passed[id(output)] = max(before, default=0) + kernels
    return False
