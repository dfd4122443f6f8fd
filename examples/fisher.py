"""A pruner that looks at gradients: the Fisher information of each weight (Theis et al. 2018).

pruners: ["examples.fisher:fisher"]
"""

import torch.nn.functional as F

from trainer.pruning import Moment, Pruner
from trainer.pruning.look import Look
from trainer.pruning.scores import Scores


def score(look: Look) -> Scores:
    """(g · w)² of each weight, g being the loss's gradient on one batch of training images."""
    images, labels = next(look.batches())
    logits = look.network(images, training=True)
    F.cross_entropy(logits, labels).backward()
    kernels = {v.path: v.value for v in look.network.trainable_variables if v.path in look.weights}
    return {path: (w.grad * w).square().detach().cpu().numpy() for path, w in kernels.items()}


fisher = Pruner(score, Moment.START, in_rounds=False)
