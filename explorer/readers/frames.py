"""The frames that readers give, and what pages do with them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from jackpot import revisions
from jackpot.contract import Kind, Metric, Param, Tag
from jackpot.looks import LookThen
from jackpot.trials import FAILED_FOR_GOOD, below

_NUMBERS: dict[str, type[pl.DataType]] = {
    Param.NETWORK_REVISION: pl.Int64,
    Param.DATASET_REVISION: pl.Int64,
    Param.SPARSITY: pl.Float64,
    Param.ROUND: pl.Int64,
    Param.LEARNING_RATE: pl.Float64,
    Param.PRETRAIN_LEARNING_RATE: pl.Float64,
    Param.EPOCHS: pl.Int64,
    Param.BATCH_SIZE: pl.Int64,
    Param.MOMENTUM: pl.Float64,
    Param.WEIGHT_DECAY: pl.Float64,
    Param.WARMUP_EPOCHS: pl.Int64,
    Param.REWIND_EPOCH: pl.Int64,
    Param.VALIDATION_IMAGES: pl.Int64,
    Param.TRIAL: pl.Int64,
    Param.SEED: pl.Int64,
}
_RATES = (str(Param.LEARNING_RATE), str(Param.PRETRAIN_LEARNING_RATE))
_NEEDED = (
    *(Param.NETWORK, Param.DATASET, Param.SETTING, Param.SPARSITY),
    *(Param.LEARNING_RATE, Param.TRIAL, Param.EPOCHS),
)
# A metric that is also a param (learning_rate) appears once, as the param.
METRICS = [m for m in Metric if str(m) not in {str(param) for param in Param}]
TAGS = [
    *(Tag.RUN_KEY, Tag.PLAN_KEY, Tag.STUDY, Tag.KIND, Tag.PARENT_RUN_KEYS),
    *(Tag.MASK_RUN_ID, Tag.INIT_RUN_ID, Tag.FAILURE, Tag.DEVICE),
    *(Tag.LANDSCAPE, Tag.CONNECTIVITY),
    *(Tag.RESIDUAL, Tag.TEST_SET_SIZE, Tag.DATASET_SHA256),
]
SCHEMA: dict[str, type[pl.DataType]] = {
    "run_id": pl.String,
    "experiment_id": pl.String,
    "name": pl.String,
    "status": pl.String,
    "start_time": pl.Int64,
    "end_time": pl.Int64,
    "artifact_uri": pl.String,
    **{str(param): _NUMBERS.get(param, pl.String) for param in Param},
    **{str(metric): pl.Float64 for metric in METRICS},
    **{str(tag): pl.String for tag in TAGS},
    "launch_id": pl.String,
}


IMAGES_TOLD_APART = r" \(images [0-9a-f]{1,8}\)$"
"""What a dataset's name ends with where two contents had that name."""
PLAN_SCHEMA: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("run_key", "name", "parent_run_keys"), pl.String),
    **{str(param): SCHEMA[param] for param in Param},
    # Of an adaptive study: the look that asked for the run first.
    "look": pl.Int64,
}


@dataclass(frozen=True)
class Planned:
    """What a launch planned.

    Attributes:
        runs: `run_key name parent_run_keys` and the contract's params.
        said: the criteria that its study asks to be read by; see `jackpot.Criteria`.
        looks: of an adaptive study, so far; see `jackpot.looks`.
    """

    runs: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PLAN_SCHEMA))
    said: Mapping[str, float | str] = field(default_factory=dict)
    looks: tuple[LookThen, ...] = ()


POINTS: dict[str, type[pl.DataType]] = {
    "run_id": pl.String,
    "step": pl.Int64,
    "timestamp": pl.Int64,
    "value": pl.Float64,
}
LISTED = ["run_id", "status", "end_time", str(Tag.LANDSCAPE), str(Tag.CONNECTIVITY)]


def different(old: pl.DataFrame, listing: pl.DataFrame) -> pl.Series:
    """Ids of the runs in `listing` that are missing from `old`, differ from it, or still run."""
    held = old.select(LISTED)
    same = listing.filter(pl.col("status") != "RUNNING").join(
        held, on=LISTED, how="semi", nulls_equal=True
    )
    return listing.join(same, on="run_id", how="anti")["run_id"]


def merged(old: pl.DataFrame, new: pl.DataFrame, ids: pl.Series | None = None) -> pl.DataFrame:
    """`old` updated with the rows of `new`; if `ids` are given, only those runs."""
    kept = old.join(new.select("run_id"), on="run_id", how="anti")
    frame = pl.concat([kept, new])
    if ids is not None:
        frame = frame.filter(pl.col("run_id").is_in(ids.implode()))
    return frame.sort("start_time", "run_id")


def trainings(runs: pl.DataFrame) -> pl.DataFrame:
    """The training runs among `runs`."""
    return runs.filter(pl.col(Tag.KIND) == Kind.TRAINING)


def launches(runs: pl.DataFrame) -> pl.DataFrame:
    """The launches among `runs`, the newest first."""
    named = pl.col(Tag.STUDY).is_not_null()
    return runs.filter(pl.col(Tag.KIND) == Kind.LAUNCH, named).sort("start_time", descending=True)


def of_plan(runs: pl.DataFrame, plan: pl.DataFrame) -> pl.DataFrame:
    """The trainings of a plan, in whichever experiment they were logged; one per run key.

    Of several attempts at a key, the finished one counts, else the newest.
    """
    return (
        trainings(runs)
        .join(plan.select("run_key").unique(), on="run_key", how="semi")
        .sort(pl.col("status") != "FINISHED", -pl.col("start_time"))
        .unique("run_key", keep="first", maintain_order=True)
        .pipe(_images_told_apart)
        .sort("start_time", "run_id")
    )


def _images_told_apart(runs: pl.DataFrame) -> pl.DataFrame:
    """Says the images in a dataset's name where two contents had that name.

    Only stores of earlier versions have both in one study; the trainer refuses that now.
    """
    digest = pl.col(Tag.DATASET_SHA256)
    several = digest.drop_nulls().n_unique().over(Param.DATASET) > 1
    named = pl.format("{} (images {})", Param.DATASET, digest.str.head(8))
    return runs.with_columns(
        pl.when(several & digest.is_not_null())
        .then(named)
        .otherwise(Param.DATASET)
        .alias(Param.DATASET)
    )


def pending(plan: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """The runs of a plan that may yet finish: neither finished nor diverged, nor below such a one.

    Args:
        plan: from `readers.ApiReader.plan`.
        runs: of that plan; see `of_plan`.
    """
    ended = runs.filter((pl.col("status") == "FINISHED") | FAILED_FOR_GOOD)["run_key"].to_list()
    return plan.filter(~pl.col("run_key").is_in([*ended, *below_failed(plan, runs)]))


def below_failed(plan: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Keys of the runs of a plan that are not trained, since one that they need has diverged.

    Args:
        plan, runs: see `pending`.
    """
    lost = runs.filter(FAILED_FOR_GOOD)["run_key"].to_list()
    ended = {*lost, *runs.filter(status="FINISHED")["run_key"]}
    left = plan.select("run_key", "parent_run_keys").iter_rows()
    return below(
        ((key, (parents or "").split(",")) for key, parents in left if key not in ended), lost
    )


def raw_type(name: str) -> type[pl.DataType]:
    """A column's type in the store, which keeps params and tags as text."""
    is_number = name in ("start_time", "end_time") or name in METRICS
    return SCHEMA[name] if is_number else pl.String


def typed(raw: pl.DataFrame) -> pl.DataFrame:
    """The columns of `SCHEMA`; what is no number where one belongs becomes null.

    Networks are called by `revisions.label`, so that runs of different revisions never meet.
    """
    return (
        raw.select(
            (
                pl.col(name) if name in raw.columns else pl.lit(None, raw_type(name)).alias(name)
            ).cast(kind, strict=False)
            for name, kind in SCHEMA.items()
        )
        .pipe(_possible)
        .pipe(labelled)
        .sort("start_time", "run_id")
    )


def _possible(runs: pl.DataFrame) -> pl.DataFrame:
    """Counts runs that cannot be as failed, and says so: only another program writes such.

    Those with an impossible accuracy, rate or sparsity, and those that ended without a param that
    every training has.
    """
    accuracies = [name for name in METRICS if name.endswith("accuracy")]
    wrong = {
        **{name: pl.col(name).is_not_nan() & ~pl.col(name).is_between(0, 1) for name in accuracies},
        **{rate: ~(pl.col(rate).is_finite() & (pl.col(rate) > 0)) for rate in _RATES},
        str(Param.SPARSITY): ~pl.col(Param.SPARSITY).is_between(0, 1, closed="left"),
    }
    wrong = {name: (pl.col(name).is_not_null() & found) for name, found in wrong.items()}
    any_wrong = pl.any_horizontal(wrong.values())
    ended = (pl.col(Tag.KIND) == Kind.TRAINING) & (pl.col("status") != "RUNNING")
    lacks = ended & pl.any_horizontal(pl.col(name).is_null() for name in _NEEDED)
    return runs.with_columns(
        *(pl.when(found).then(None).otherwise(name).alias(name) for name, found in wrong.items()),
        pl.when(any_wrong | lacks).then(pl.lit("FAILED")).otherwise("status").alias("status"),
        pl.when(any_wrong)
        .then(pl.lit("its accuracy, learning rate or sparsity cannot be"))
        .when(lacks)
        .then(pl.lit("it lacks a param that every training has"))
        .otherwise(Tag.FAILURE)
        .alias(Tag.FAILURE),
    )


def labelled(runs: pl.DataFrame) -> pl.DataFrame:
    """Says the revision of a network or dataset in its name, if it is not the current one.

    Args:
        runs: with the contract's params as columns.
    """
    for name, number, earlier in (
        (Param.NETWORK, Param.NETWORK_REVISION, revisions.of_network),
        (Param.DATASET, Param.DATASET_REVISION, revisions.of_dataset),
    ):
        kinds = runs.select(name, number).unique().drop_nulls(name)
        labels = [revisions.label(kind, earlier(kind), n) for kind, n in kinds.iter_rows()]
        runs = (
            runs.join(
                kinds.with_columns(pl.Series("label", labels, pl.String)),
                on=[name, number],
                how="left",
                nulls_equal=True,
            )
            .with_columns(pl.coalesce("label", name).alias(name))
            .drop("label")
        )
    return runs
