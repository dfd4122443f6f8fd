"""Which images a study's runs are of: runs on others are other runs, and never meet in a study."""

from collections import Counter
from collections.abc import Mapping

from trainer.datasets import Dataset, DatasetError
from trainer.store.journal import WorkDir
from trainer.store.tracking import StoredRun
from trainer.study.config import Study
from trainer.study.plan import Plan, RunSpec, plan


def planned(
    config: Study,
    digest: str | None,
    earlier_digest: str | None,
    stored: Mapping[str, StoredRun],
    work: WorkDir,
) -> Plan:
    """The plan of a study on the images at hand.

    Run keys of earlier versions do not name the images. They stay valid where the store, or the
    work directory, has runs of them on these images.

    Args:
        config: the study.
        digest: of the images at hand; None: not known, any will do.
        earlier_digest: what earlier versions recorded of the same images.
        stored: finished runs on the dataset, whichever study's, by key.
        work: may hold runs of an earlier version that have not arrived yet.

    Raises:
        DatasetError: the study has runs on other images of that name.
    """
    without = plan(config)
    if digest is None:
        seen = Counter(run.dataset_sha256 for run in stored.values() if run.dataset_sha256)
        plans = [plan(config, known) for known, _ in seen.most_common()]
        return max([without, *plans], key=lambda p: sum(run.key in stored for run in p.runs))
    same = {digest, earlier_digest, ""}
    _check_the_study(config, digest, same, stored)
    old = [run.key for run in without.runs]
    if any(key in stored and stored[key].dataset_sha256 in same for key in old):
        return without
    if any(key not in stored and work.of(key) for key in old):
        return without
    return plan(config, digest)


def _check_the_study(
    config: Study, digest: str, same: set[str | None], stored: Mapping[str, StoredRun]
) -> None:
    others = Counter(
        run.dataset_sha256
        for run in stored.values()
        if run.study == config.study and run.dataset_sha256 not in same
    )
    for other, count in others.items():
        raise DatasetError(
            f"study '{config.study}' has {count} finished runs on other images that were called "
            f"{config.dataset.name!r} too: these have SHA-256 {digest[:12]}…, those {other[:12]}…. "
            "Means over both would say nothing. Bring the earlier images back, or give the study "
            "another name"
        )


def check(spec: RunSpec, dataset: Dataset) -> None:
    """Sees that a machine holds the images that a run was planned on. Raises: DatasetError."""
    if spec.dataset_sha256 not in (None, dataset.digest):
        raise DatasetError(
            f"{spec.name}: this machine holds other images as {dataset.name!r} (SHA-256 "
            f"{dataset.digest[:12]}…) than the launch ({str(spec.dataset_sha256)[:12]}…). Copy the "
            "launch's prepared dataset to it"
        )
