"""Makes `docs/gallery/` of a store: its studies' figures, verdicts, costs, and the store itself.

    python -m benchmarks.gallery sqlite:////path/to/mlflow.db
    python -m benchmarks.gallery --unpack .jackpot/gallery

The store is kept as `store.tar.xz`, without weights and masks: what the explorer reads of it.
`make gallery` opens it. Figures and page are made of that file, so that they cannot differ.
"""

import argparse
import shutil
import sqlite3
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl

from explorer import answer, snapshot
from explorer.figures import by_learning_rate, looks, verdicts
from explorer.figures.printing import TWO_COLUMNS
from explorer.readers import reader
from explorer.readers.frames import launches
from explorer.show import Chart, exported
from jackpot import stores, wording
from jackpot.conditions import Criteria, Verdict
from jackpot.contract import Artifact, Tag
from jackpot.definition import Judgement
from jackpot.guideline import RULES, evidence

FOLDER = Path(__file__).parents[1] / "docs" / "gallery"
STORE = "store.tar.xz"
_DATABASE, _STATEMENTS = "mlflow.db", "mlflow.sql"
MOST_BYTES = 5_000_000
_KEPT = (Artifact.LAUNCH_CONFIG, Artifact.LAUNCH_PLAN, Artifact.LAUNCH_ENVIRONMENT)


def pack(file: Path, packed: Path) -> None:
    """Packs a SQLite store, with the artifacts of its launches alone.

    As SQL, which takes a third of the file that it makes: its indices do not compress.

    Raises:
        ValueError: it is larger than a repository should hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        statements = Path(folder) / _STATEMENTS
        with (
            closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store,
            statements.open("w", encoding="utf-8", newline="") as text,
        ):
            text.writelines(f"{statement}\n" for statement in store.iterdump())
        with tarfile.open(packed, "w:xz", preset=9) as tar:
            tar.add(statements, _STATEMENTS)
            for path in sorted((file.parent / stores.ARTIFACTS).rglob("artifacts/*")):
                if path.name in _KEPT:
                    tar.add(path, str(path.relative_to(file.parent)))
    size = packed.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{packed}: {size:,} bytes, more than {MOST_BYTES:,}")


def unpack(packed: Path, folder: Path) -> str:
    """Makes the store in `folder`, anew where it is there, and returns its URI."""
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    database, statements = folder / _DATABASE, folder / _STATEMENTS
    database.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as store:
        store.executescript(statements.read_bytes().decode())
    statements.unlink()
    return f"sqlite:///{database.absolute()}"


def page(uri: str, folder: Path) -> str:
    """The gallery in Markdown; its figures and configs go to `folder`."""
    known = snapshot.Snapshot(reader(uri))
    known.refresh()
    studies = snapshot.studies(known)
    lines = ["# Gallery", "", *_INTRODUCTION, "", *_contents(studies), ""]
    for study in studies:
        lines += [*_study(study, known, folder), ""]
    return "\n".join([*lines, *_rules(studies)]) + "\n"


_INTRODUCTION = [
    "Studies that were trained for real, as they came out. `make gallery` opens them in the",
    f"explorer, from [{STORE}]({STORE}), without training. `python -m benchmarks.gallery` made",
    "this page of it.",
]


def _contents(studies: list[snapshot.Study]) -> Iterator[str]:
    """A row for each study: how many of its tickets have which verdict."""
    columns = (Verdict.JACKPOT, Verdict.SECONDARY, Verdict.NONE, Verdict.UNDECIDED)
    yield f"| study | of | tickets | {' | '.join(columns)} | runs | training |"
    yield "|---" * (5 + len(columns)) + "|"
    for study in studies:
        judgements = _judged(study)
        first = judgements[0]
        counts = Counter(judgement.verdict for judgement in judgements)
        # Whether a ticket is a jackpot may be all that is open.
        counts[Verdict.SECONDARY] += counts[Verdict.TICKET]
        finished = study.runs.filter(pl.col("status") == "FINISHED")
        yield (
            f"| [{study.name}](#{study.name}) | {first.network} on {first.dataset} "
            f"| {len(judgements)} | {' | '.join(str(counts[c] or '–') for c in columns)} "
            f"| {finished.height:,} | {wording.duration(_busy(finished))} |"
        )


def _judged(study: snapshot.Study) -> list[Judgement]:
    judged = [j for j in study.judged(Criteria(), "last") if not j.missing]
    if not judged:
        raise SystemExit(f"study {study.name}: it has no ticket that can be judged")
    return judged


def _study(study: snapshot.Study, known: snapshot.Snapshot, folder: Path) -> Iterator[str]:
    criteria = study.read_by(Criteria())
    judgements = _judged(study)
    # Sparsities at which every setting was trained.
    depths = [0.0, *(judgement.sparsity for judgement in judgements)]
    runs = study.accuracies().filter(pl.col("sparsity").is_in(depths))
    yield f"## {study.name}"
    yield ""
    yield answer.sentence(judgements, study.plan, study.runs, study.looks)
    yield ""
    data = by_learning_rate.panels(runs, judgements, criteria, str(runs["dataset"][0]))
    figures: dict[str, Chart] = {"accuracy-vs-learning-rate": by_learning_rate.chart(data)}
    if any(look.tickets for look in study.looks):
        figures["looks"] = looks.chart(looks.cells(study.looks, study.view))
    else:
        figures["verdicts"] = verdicts.chart(verdicts.cells(judgements, study.view))
    for name, chart in figures.items():
        file = f"{study.name}-{name}.svg"
        svg = exported(chart.to_dict(), "svg", TWO_COLUMNS)
        (folder / file).write_bytes(svg)
        yield f"![{name.replace('-', ' ')}]({file})"
        yield ""
    yield from _verdicts(judgements)
    yield ""
    yield _cost(study)
    yield ""
    with known.store.artifact(study.launch_id, Artifact.LAUNCH_CONFIG) as path:
        config = folder / f"{study.name}.yaml"
        shutil.copyfile(path, config)
    yield f"Config: [{config.name}]({config.name}), as the launch read it."


def _verdicts(judgements: list[Judgement]) -> Iterator[str]:
    """A row for each ticket: margins in points, with the bounds that decide."""
    conditions = [f.condition for f in judgements[0].conditions if f.condition.rival]
    heads = " | ".join(f"({c.name}) {c.plain}" for c in conditions)
    yield f"| ticket | trials | {heads} | verdict | by the means |"
    yield "|---" * (4 + len(conditions)) + "|"
    for judgement in judgements:
        few, most = judgement.trials
        cells = [
            _margin(found.margin, found.low, found.high)
            for found in judgement.conditions
            if found.condition.rival
        ]
        yield (
            f"| {judgement.pruner.upper()} at {wording.sparsity(judgement.sparsity)} | "
            f"{few if few == most else f'{few} to {most}'} | {' | '.join(cells)} | "
            f"{judgement} | {judgement.point_verdict} |"
        )


def _margin(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "–"
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _cost(study: snapshot.Study) -> str:
    finished = study.runs.filter(pl.col("status") == "FINISHED")
    device = ", ".join(finished[Tag.DEVICE].drop_nulls().unique().sort().to_list())
    said = f"It cost {wording.count(finished.height, 'run')}, about "
    said += f"{wording.duration(_busy(finished))} of training on {device}."
    if study.looks:
        last = study.looks[-1]
        said += (
            f" {wording.count(len(study.looks), 'look')}: {last.why or 'the last is under way'}."
        )
    return said


def _busy(runs: pl.DataFrame) -> float:
    """Seconds in which at least one run was trained: some are trained side by side."""
    took = pl.col("end_time") - pl.col("start_time")
    # A run that was killed and went on later took no longer than others.
    start = pl.col("end_time") - pl.min_horizontal(took, 3 * took.median())
    alone = pl.col("end_time") - pl.max_horizontal("start", pl.col("end_time").cum_max().shift(1))
    return float(
        runs.select(start.alias("start"), "end_time")
        .sort("start")
        .select((alone.clip(0) / 1000).sum())
        .item()
    )


def _rules(studies: list[snapshot.Study]) -> Iterator[str]:
    found = pl.concat(
        evidence(
            study.accuracies(),
            study.read_by(Criteria()),
            study.pending,
            judgements=study.judged(Criteria(), "last"),
        )
        for study in studies
    )
    yield "## What they say of the guideline"
    for rule, text in RULES.items():
        yield ""
        yield f"**{rule}.** {text}"
        yield ""
        for row in found.filter(pl.col("rule") == rule).iter_rows(named=True):
            vote = {True: "for it", False: "against it", None: "undecided"}[row["supports"]]
            said = "" if rule == 3 else f": {vote}"
            yield f"- {row['network']} on {row['dataset']}: {row['measure']}{said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("store", nargs="?", help="such as sqlite:////path/to/mlflow.db")
    choice.add_argument("--unpack", metavar="FOLDER", type=Path, help="where to put the store")
    options = parser.parse_args()
    if options.unpack:
        options.unpack.mkdir(parents=True, exist_ok=True)
        print(unpack(FOLDER / STORE, options.unpack))
        return
    file = stores.sqlite_file(options.store)
    if file is None or not file.is_file():
        raise SystemExit(f"{options.store}: expected a SQLite store that exists")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        made.mkdir()
        pack(file, made / STORE)
        uri = unpack(made / STORE, Path(folder))
        (made / "README.md").write_text(page(uri, made), encoding="utf-8")
        count = launches(reader(uri).runs())[Tag.STUDY].n_unique()
        # All of it or nothing.
        shutil.copytree(made, FOLDER, dirs_exist_ok=True)
    print(f"docs/gallery: {count} {'study' if count == 1 else 'studies'}")


if __name__ == "__main__":
    main()
