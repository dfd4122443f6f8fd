"""The names that the trainer writes to MLflow and the explorer reads from it, each said once.

An MLflow experiment is a study. Each launch of a study is one parent run; each training is one
child run of the launch that trained it. Accuracies are fractions; metric steps are 1-based epochs.
"""

from enum import StrEnum


class Param(StrEnum):
    """MLflow params of a training run."""

    NETWORK = "network"
    DATASET = "dataset"
    SETTING = "setting"
    PRUNER = "pruner"
    SPARSITY = "sparsity"
    ROUND = "round"
    LEARNING_RATE = "learning_rate"
    PRETRAIN_LEARNING_RATE = "pretrain_learning_rate"
    EPOCHS = "epochs"
    BATCH_SIZE = "batch_size"
    OPTIMIZER = "optimizer"
    MOMENTUM = "momentum"
    WEIGHT_DECAY = "weight_decay"
    SCHEDULE = "schedule"
    WARMUP_EPOCHS = "warmup_epochs"
    REWIND_EPOCH = "rewind_epoch"
    TRIAL = "trial"
    SEED = "seed"
    # Only where they are not the default:
    NETWORK_REVISION = "network_revision"
    DATASET_REVISION = "dataset_revision"
    TRAIN_IMAGES = "train_images"
    TEST_IMAGES = "test_images"
    PRUNED_LAYERS = "pruned_layers"
    NESTEROV = "nesterov"
    OPTIMIZER_OPTIONS = "optimizer_options"
    VALIDATION_IMAGES = "validation_images"
    AUGMENTATION = "augmentation"
    LABEL_SMOOTHING = "label_smoothing"
    MIXUP = "mixup"
    DECAY_BATCH_NORM = "decay_batch_norm"
    MASK_EPOCH = "mask_epoch"
    PRECISION = "precision"
    EVALUATE_EVERY = "evaluate_every"
    DEVICES_PER_RUN = "devices_per_run"


class Metric(StrEnum):
    """MLflow metrics: the first seven once per epoch, the others once at the end of a run.

    `val_…` are of the test split, `heldout_…` of images held out from the training split, where a
    study holds some out. `effective_sparsity` counts weights that are on no path from input to
    output as pruned; `collapsed_layers` have no other weights (`trainer.pruning.paths`).
    `best_val_accuracy` is the test accuracy after the best epoch: the one of
    the highest held-out accuracy, without held-out images of the highest test accuracy.
    """

    LOSS = "loss"
    ACCURACY = "accuracy"
    VAL_LOSS = "val_loss"
    VAL_ACCURACY = "val_accuracy"
    LEARNING_RATE = "learning_rate"
    HELDOUT_LOSS = "heldout_loss"
    HELDOUT_ACCURACY = "heldout_accuracy"
    BEST_VAL_ACCURACY = "best_val_accuracy"
    BEST_HELDOUT_ACCURACY = "best_heldout_accuracy"
    BEST_EPOCH = "best_epoch"
    MEASURED_SPARSITY = "measured_sparsity"
    EFFECTIVE_SPARSITY = "effective_sparsity"
    COLLAPSED_LAYERS = "collapsed_layers"
    TRAINABLE_PARAMETERS = "trainable_parameters"
    TARGET_PARAMETERS = "target_parameters"
    IMAGES_PER_SECOND = "images_per_second"


class Tag(StrEnum):
    """MLflow tags of our own."""

    KIND = "kind"
    RUN_KEY = "run_key"
    PLAN_KEY = "plan_key"
    PARENT_RUN_KEYS = "parent_run_keys"
    MASK_RUN_ID = "mask_run_id"
    INIT_RUN_ID = "init_run_id"
    STUDY = "study"
    HEARTBEAT = "heartbeat"
    FAILURE = "failure"
    DEVICE = "device"
    DATASET_SHA256 = "dataset_sha256"
    THREADS = "threads"
    FUSED = "fused"
    RESIDUAL = "residual"
    TEST_SET_SIZE = "test_set_size"
    LANDSCAPE = "landscape"
    CONNECTIVITY = "connectivity"
    GIT_COMMIT = "git_commit"


DIVERGED = r"^(val_)?loss became "
"""How the tag `failure` of a run begins whose training or test loss is no number any more."""


class Kind(StrEnum):
    """Values of the tag `kind`: what a run in the study's experiment is."""

    LAUNCH = "launch"
    TRAINING = "training"


class Artifact(StrEnum):
    """Artifact paths inside a run."""

    TICKET_INITIAL = "ticket/initial.safetensors"
    TICKET_MASK = "ticket/mask.safetensors"
    WEIGHTS_FINAL = "weights/final.safetensors"
    WEIGHTS_BEST = "weights/best.safetensors"
    LAUNCH_CONFIG = "config.yaml"
    LAUNCH_PLAN = "plan.json"
    LAUNCH_ENVIRONMENT = "environment.json"


def rewind_artifact(epoch: int) -> str:
    """Path of the weights that pretraining kept after `epoch` epochs, for weight rewinding."""
    return f"rewind/epoch-{int(epoch)}.safetensors"


TRAJECTORY = "trajectory"
"""Folder of the artifacts that `trajectory_artifact` names."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag by which a run names the launch that trained it."""
SOURCE_NAME_TAG, SOURCE_TYPE_TAG = "mlflow.source.name", "mlflow.source.type"
USER_TAG = "mlflow.user"
"""MLflow's own tags for what made a run, and who."""
NOTE_TAG = "mlflow.note.content"
"""MLflow's own tag for the description of an experiment, in Markdown."""
DATASET_CONTEXT_TAG = "mlflow.data.context"
"""MLflow's own tag of a run's dataset for what it is used for."""
DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"


def trajectory_artifact(epoch: int) -> str:
    """Path of the weights after `epoch` epochs, kept to draw a run's way over the loss surface."""
    return f"{TRAJECTORY}/epoch-{int(epoch)}.safetensors"


FILTER_LENGTHS = "filter lengths"
"""Metadata `units` of landscapes whose coordinates compare between runs; older ones lack it."""


def connectivity_artifact(other: str, batch_norm: str = "re-estimated") -> str:
    """Path of the loss on the line to the final weights of another run (its id)."""
    kind = other if batch_norm == "re-estimated" else f"{other}-{batch_norm}"
    return f"connectivity/{kind}.safetensors"


def landscape_artifact(directions: str, batch_norm: str = "re-estimated") -> str:
    """Path of the loss over a plane through a run's final weights; see `trainer.landscape`."""
    kind = directions if batch_norm == "re-estimated" else f"{directions}-{batch_norm}"
    return f"landscape/{kind}.safetensors"
