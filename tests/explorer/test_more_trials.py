"""From an open verdict to more trials: runs, hours and a config that the trainer takes."""

import io
from dataclasses import replace

import polars as pl
import pytest
from ruamel.yaml import YAML

from explorer import settling
from explorer.figures import by_learning_rate
from jackpot import citation
from jackpot.conditions import Criteria
from jackpot.definition import judge
from jackpot.settling import settle
from tests.configs import tiny
from tests.jackpot.test_definition import runs, three_trials
from tests.jackpot.test_settling import NEAR
from trainer.study.config_file import load_study
from trainer.study.plan import plan

RATES = (0.01, 0.1)


@pytest.fixture
def opened():
    (judgement,) = judge(runs(three_trials(NEAR, deviation=0.2)))
    return judgement, settle(judgement)


def planned() -> pl.DataFrame:
    """Three trials at three rates; LT-IMP at 0.914 needs the round at 0.5, OMP's need neither."""
    rows = []
    for rate in (*RATES, 1.0):
        for t in (1, 2, 3):
            dense = f"pretrain {rate} {t}"
            for setting, pruner, sparsity, parents in [
                ("pretrain", None, None, ""),
                ("lt", "imp", 0.5, dense),
                ("lt", "imp", 0.914, f"lt imp 0.5 {rate} {t}"),
                ("lt", "imp", 0.95, f"lt imp 0.914 {rate} {t}"),
                *(("lt", "omp", s, dense) for s in (0.5, 0.914, 0.95)),
                ("rr", "imp", 0.914, f"lt imp 0.5 {rate} {t}"),
                ("sdt", None, 0.914, ""),
            ]:
                of = f"{setting} {pruner} {sparsity} {rate} {t}"
                rows.append(
                    {
                        "run_key": dense if setting == "pretrain" else of,
                        **{"parent_run_keys": parents, "setting": setting, "pruner": pruner},
                        **{"sparsity": sparsity, "learning_rate": rate, "trial": t},
                        "pretrain_learning_rate": None,
                    }
                )
    return pl.DataFrame(
        rows, schema_overrides={"pruner": pl.String, "pretrain_learning_rate": pl.Float64}
    )


HOURS = {"pretrain": 1, "lt": 2, "rr": None, "sdt": None}


def finished() -> pl.DataFrame:
    """All that is planned, of which RR and SDT do not say how long they took."""
    hours = pl.col("setting").replace_strict(HOURS, return_dtype=pl.Int64)
    return planned().with_columns(
        pl.lit("FINISHED").alias("status"),
        pl.lit(None, pl.String).alias("failure"),
        pl.lit(0).alias("start_time"),
        (hours * 3_600_000).alias("end_time"),
    )


def test_runs_and_hours_are_those_of_the_plan(opened):
    judgement, found = opened
    wanted = settling.launch(found, judgement, planned(), finished())
    more = wanted.trials - 3
    assert wanted.learning_rates == RATES
    assert wanted.more == more
    # Of a trial and rate: pretraining, two rounds of LT-IMP, RR and SDT at its sparsity.
    assert wanted.runs == more * 2 * 5
    # An hour of pretraining, two each of LT; RR and SDT take the mean of those.
    assert wanted.hours == pytest.approx(more * 2 * (1 + 2 + 2 + 1.5 + 1.5))


def test_trials_that_a_rival_lacks_count_too(opened):
    """LT has more trials than are wanted, its rivals none: nobody asks for fewer than none."""
    judgement, found = opened
    many = pl.concat([finished().filter(pl.col("setting") == "lt")] * 20)
    wanted = settling.launch(found, judgement, planned(), many)
    assert wanted.more == wanted.trials
    # Pretraining, RR and SDT at two rates.
    assert wanted.runs == wanted.trials * 2 * 3
    untimed = many.with_columns(end_time=pl.lit(None, pl.Int64))
    assert settling.launch(found, judgement, planned(), untimed).hours is None


def test_runs_under_masks_of_another_rate_are_no_trials_of_a_ticket(opened):
    judgement, found = opened
    other = finished().filter(pl.col("setting") == "lt").with_columns(pretrain_learning_rate=9.0)
    without = settling.launch(found, judgement, planned(), finished())
    assert settling.launch(found, judgement, planned(), pl.concat([finished(), other])) == without


def test_the_config_plans_those_trials_and_keeps_what_is_trained(opened, tmp_path):
    judgement, found = opened
    file = tiny(tmp_path, learning_rates="[0.01, 0.1, 1.0]", trials="3")
    study = load_study(file)
    wanted = settling.launch(
        found,
        judgement,
        planned(),
        finished().clear(),
    )
    assert wanted.hours is None
    text = io.StringIO()
    open_at = replace(judgement, sparsity=0.75)
    YAML().dump(settling.config(study.model_dump(mode="json"), wanted, open_at), text)
    (tmp_path / "more.yaml").write_text(text.getvalue())
    more = load_study(tmp_path / "more.yaml")
    assert (more.trials, tuple(more.learning_rates)) == (wanted.trials, RATES)
    kept = {
        spec.key
        for spec in plan(study).runs
        if spec.learning_rate in RATES and spec.pruner != "omp" and spec.setting.name != "wr"
    }
    after = {spec.key for spec in plan(more).runs}
    assert kept <= after, "runs that are trained are not trained again"
    assert len(after) == len(kept) * wanted.trials / 3


def test_sentences(opened):
    _, found = opened
    said = [settling.sentence(one) for one in found]
    third = next(text for text in said if text.startswith("③"))
    assert "trials of LT at 0.01, 0.1 and RR at 0.1" in third


def test_a_citation_says_all_that_a_reviewer_asks(opened):
    judgement, _ = opened
    text = citation.text(judgement, "my-study", "abc123", "last")
    assert text.startswith("LT-IMP of resnet20 on cifar10 at sparsity 0.914 ")
    third = judgement.finding("3")
    for words in (
        "(n = 3 trials; by the means alone: secondary)",
        f"margin +0.25 ({100 * third.low:+.2f} to {100 * third.high:+.2f}), at learning rates 0.01",
        "level 5 %",
        "Similar: within 0.5 points; clear gap: over 0.5; non-trivial sparsity: 0.59",
        "literal reading; rates chosen on test images; last epoch",
        "Study my-study, launch abc123.",
    ):
        assert words in text


def test_the_band_is_at_the_rate_that_held_out_images_choose():
    frame = runs({"pretrain": {0.01: 92.0, 0.1: 91.0}, "lt": {0.01: 90.0, 0.1: 90.5}}).with_columns(
        # By held-out images 0.1 is the better rate of pretraining.
        pl.when(pl.col("learning_rate") == 0.1).then(0.95).otherwise(0.90).alias("heldout_accuracy")
    )
    for rate_by, best in (("test", 92.0), ("heldout", 91.0)):
        criteria = Criteria(rate_by=rate_by)
        data = by_learning_rate.panels(frame, judge(frame, criteria), criteria, "cifar10")
        assert data["best"].unique().to_list() == pytest.approx([best])
        assert data["similar"].unique().to_list() == pytest.approx([best - 0.5])
