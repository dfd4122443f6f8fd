"""A study in one sentence, and the map of its verdicts."""

from dataclasses import replace

import polars as pl
import pytest

from explorer import answer
from explorer.figures import appearance, verdicts
from explorer.readers.frames import below_failed, pending
from jackpot.conditions import Criteria, Verdict
from jackpot.definition import Judgement, judge
from jackpot.looks import LookThen
from tests.explorer.test_more_trials import finished, planned
from tests.jackpot.test_definition import SECONDARY, runs, three_trials
from tests.jackpot.test_settling import NEAR

VIEW = {"study": "s", "launch": "l"}


def judged(curves: dict, deviation: float = 0.02) -> Judgement:
    (judgement,) = judge(runs(three_trials(curves, deviation=deviation)))
    return judgement


def said(*judgements: Judgement) -> str:
    return answer.sentence(judgements, planned(), finished())


def test_what_is_decided_is_said_without_reserve():
    judgement = judged(SECONDARY)
    assert judgement.verdict is Verdict.SECONDARY
    assert said(judgement) == (
        "LT-IMP at 0.914 is a secondary prize ticket at learning rate 0.01; none of those trained "
        "is a jackpot ticket."
    )


def test_runs_to_come_make_it_provisional():
    judgement = replace(judged(SECONDARY), pending=3)
    assert said(judgement).startswith("So far, LT-IMP at 0.914 is a secondary prize ticket")
    assert "none" not in said(judgement)
    nothing = replace(judgement, verdict=Verdict.NONE, point_verdict=Verdict.NONE)
    assert said(nothing) == "So far: the one ticket at sparsity 0.914 is not a winning one."
    assert answer.up_to([judgement]) == "△ 0.914"


def test_what_is_open_says_what_would_settle_it():
    judgement = judged(NEAR, deviation=0.2)
    assert judgement.verdict is Verdict.UNDECIDED
    text = said(judgement)
    assert text.startswith("Whether any ticket wins is undecided; by the means, LT-IMP at 0.914 ")
    assert "more trials at 2 learning rates, about " in text
    # A study that adds its trials itself has no more to spend.
    for why, end in (("0 of 1 verdict decided", ", and the study has stopped."), ("", ".")):
        look = LookThen(1, 3, 1.0, 9, (0.01, 0.1), (), (), why)
        asked = answer.sentence([judgement], planned(), finished(), [look])
        assert "more trial" not in asked
        assert asked.startswith("Whether any ticket wins is undecided")
        assert asked.endswith(end)
    # Others that are decided are counted.
    lost = replace(judgement, verdict=Verdict.NONE, sparsity=0.5)
    assert said(judgement, lost, replace(lost, pending=1)).startswith(
        "Of 3 tickets, 1 does not win, and 2 are undecided; by the means, LT-IMP at 0.914 would be "
    )
    one_trial = {name: dict(curve) for name, curve in SECONDARY.items()}
    (single,) = judge(runs(one_trial))
    assert "one trial of each does not tell how much trials vary" in said(single)


def test_a_launch_under_way_says_how_far_it_is():
    some = finished().head(10)
    text = answer.sentence([judged(SECONDARY)], planned(), some)
    assert text.endswith(f"10 of {planned().height} planned runs have finished.")
    failed = some.head(2).with_columns(status=pl.lit("FAILED"))
    killed = some.head(3).with_columns(status=pl.lit("KILLED"))
    ended = pl.concat([some, failed, killed])
    text = answer.sentence([judged(SECONDARY)], planned(), ended)
    assert text.endswith("planned runs have finished, 2 failed, 3 interrupted.")
    # What an IMP round was for is not trained once it has failed: two deeper ones, and RR.
    dense = finished().filter(setting="pretrain")
    first = finished().filter(setting="lt", pruner="imp", sparsity=0.5).head(1)
    nan = pl.lit("loss became nan in epoch 1")
    lost = pl.concat([dense, first.with_columns(status=pl.lit("FAILED"), failure=nan)])
    text = answer.sentence([judged(SECONDARY)], planned(), lost)
    assert text.endswith("planned runs have finished, 1 failed, 3 need one that failed.")
    none = answer.sentence([], planned(), finished().clear())
    assert none.startswith("No sparse run has finished yet.")


def test_what_failed_for_the_machines_sake_is_still_to_come():
    """The next launch trains it; what diverged would diverge again."""
    first = finished().filter(setting="lt", pruner="imp", sparsity=0.5).head(1)
    below = 3  # Two deeper rounds, and RR.
    for failure, to_come in (("CUDA error", 1 + below), ("loss became nan in epoch 1", 0)):
        failed = first.with_columns(status=pl.lit("FAILED"), failure=pl.lit(failure))
        nan = failed.with_columns(failure=pl.lit("loss became nan in epoch 1"))
        keys = [*first["run_key"], *below_failed(planned(), nan)]
        runs_ = pl.concat([finished().filter(~pl.col("run_key").is_in(keys)), failed])
        assert pending(planned(), runs_).height == to_come


def test_a_ticket_that_may_be_a_jackpot_is_decided_to_be_one_of_either():
    judgement = replace(judged(SECONDARY), verdict=Verdict.TICKET, point_verdict=Verdict.JACKPOT)
    assert verdicts.verdict_mark(judgement) == "✓△"
    assert appearance.box(judgement) == (Verdict.JACKPOT, False)


@pytest.mark.parametrize(
    ("verdict", "means", "mark", "look"),
    [
        (Verdict.JACKPOT, Verdict.JACKPOT, "★", "decided"),
        (Verdict.SECONDARY, Verdict.SECONDARY, "✓", "decided"),
        (Verdict.TICKET, Verdict.SECONDARY, "✓△", "decided"),
        (Verdict.NONE, Verdict.NONE, "×", "decided"),
        (Verdict.UNDECIDED, Verdict.JACKPOT, "★△", "open"),
        (Verdict.UNDECIDED, Verdict.SECONDARY, "✓△", "open"),
        (Verdict.UNDECIDED, Verdict.NONE, "△", "open"),
        (Verdict.NOT_ENOUGH_RUNS, Verdict.NOT_ENOUGH_RUNS, "?", "open"),
    ],
)
def test_marks_of_verdicts(verdict, means, mark, look):
    judgement = replace(judged(SECONDARY), verdict=verdict, point_verdict=means)
    cells = verdicts.cells([judgement], VIEW)
    cell = cells.filter(pl.col("row") == verdicts.VERDICT_ROW).row(0, named=True)
    assert (cell["mark"], cell["is"]) == (mark, look)
    assert "detail=IMP+at+0.914" in cell["link"]
    # While runs are to come, nothing is decided.
    waiting = verdicts.cells([replace(judgement, pending=2)], VIEW)
    assert set(waiting["is"]) == {"open"}


def test_the_map_has_a_row_for_each_condition_in_plain_words():
    cells = verdicts.cells([judged(SECONDARY)], VIEW)
    assert cells["row"].to_list() == [
        "verdict",
        "(1) sparse enough, trained long enough",
        "(2) beats a small dense network",
        "(3) beats fresh weights, same mask",
        "(4) matches dense at same rate",
        "(5) matches dense at best rate",
    ]
    assert cells["mark"].to_list() == ["✓", "✓", "✓", "✓", "✓", "×"]


def test_a_ticket_after_few_epochs_is_not_said_without_the_papers_number():
    """Section 2.1: after few epochs even poor masks look good; CIFAR-10 takes 160."""
    frame = runs(three_trials(SECONDARY, deviation=0.02), epochs=8)
    (judgement,) = judge(frame, Criteria(epochs=8))
    short = answer.too_short([judgement], frame)
    assert "after 8 epochs, which the study calls sufficient" in short
    assert "asks for 160 (condition 1)" in short
    (by_the_paper,) = judge(frame)
    assert answer.too_short([by_the_paper], frame) == "", "no ticket rests on it"
    long = runs(three_trials(SECONDARY, deviation=0.02))
    (enough,) = judge(long, Criteria(epochs=8))
    assert answer.too_short([enough], long) == ""


@pytest.mark.parametrize(("images", "error"), [(1000, "1.0"), (10_000, "")])
def test_a_ticket_of_few_test_images_is_not_said_without_their_error(images: int, error: str):
    """At p = 87.4 %, between LT and SDT, √(p (1 − p) / n) is 1.05 points, or 0.33."""
    frame = runs(three_trials(SECONDARY, deviation=0.02)).with_columns(test_set_size=images)
    (judgement,) = judge(frame)
    text = said(judgement)
    assert text.startswith("LT-IMP at 0.914 is a secondary prize ticket")
    assert (f"On {images:,} test images, a difference has a standard error of {error}" in text) == (
        bool(error)
    )
    # LT is 0.3 points within the tolerance of the dense network; of 1,000 images that is chance.
    assert ("says little of others" in text) == bool(error)
    far = {
        "pretrain": {0.01: 80.0, 0.1: 82.0},
        "lt": {0.01: 90.0, 0.1: 91.0},
        "rr": {0.01: 80.0, 0.1: 81.0},
        "sdt": {0.01: 80.0, 0.1: 81.0},
    }
    frame = runs(three_trials(far, deviation=0.02)).with_columns(test_set_size=images)
    (sure,) = judge(frame)
    assert "says little of others" not in said(sure), "nine points are seven standard errors"
