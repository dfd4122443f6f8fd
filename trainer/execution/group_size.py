"""How many runs one process steps side by side."""

from trainer import datasets
from trainer.store.shared import SharedFiles
from trainer.study.config import Study


def asked(config: Study) -> int | None:
    """The group size that a study says; None leaves it to what the device gains."""
    # Streamed images are decoded for one run at a time.
    if config.fuse == "off" or datasets.find(config.dataset.name).streamed:
        return 1
    return None if config.fuse == "auto" else config.fuse


def here(config: Study, speeds: SharedFiles) -> int:
    """The group size of a study on this machine; measures it if need be.

    Args:
        config: the study.
        speeds: what is measured is kept there.
    """
    size = asked(config)
    if size is not None:
        return size
    from trainer.execution import calibration

    return calibration.fastest_group_size(config, speeds)
