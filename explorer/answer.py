"""What a study says, in one sentence. Pure."""

from collections.abc import Sequence

import polars as pl

from explorer import settling
from explorer.figures import appearance
from explorer.readers.frames import below_failed
from jackpot import settings, wording
from jackpot.conditions import PRIZES, STANDARD_EPOCHS, Verdict, plain
from jackpot.contrasts import Decision
from jackpot.definition import Judgement
from jackpot.looks import LookThen
from jackpot.settling import settle

_NAMES = {Verdict.JACKPOT: "a jackpot ticket", Verdict.SECONDARY: "a secondary prize ticket"}


def sentence(
    judgements: Sequence[Judgement],
    plan: pl.DataFrame,
    runs: pl.DataFrame,
    looks: Sequence[LookThen] = (),
) -> str:
    """The study's answer: its best ticket, what it rests on, and what would settle what is open.

    Args:
        judgements: of the study.
        plan: its planned runs.
        runs: of the plan, as the store has them.
        looks: of an adaptive study.
    """
    complete = [j for j in judgements if not j.missing]
    said = _answer(complete, judgements, plan, runs, looks) + too_short(judgements, runs)
    winning = [j for j in complete if j.wins]
    if winning and (few := few_images(foremost(winning))):
        said += f" {few}"
    counts = dict(runs.group_by("status").len().iter_rows())
    done = counts.get("FINISHED", 0)
    if done < plan.height:
        said += f" {done} of {wording.count(plan.height, 'planned run')} have finished"
        for status, words in (("FAILED", "failed"), ("KILLED", "interrupted")):
            said += f", {counts[status]} {words}" if counts.get(status) else ""
        below = len(below_failed(plan, runs))
        said += f", {below} need one that failed" if below else ""
        said += "."
    return said


def too_short(judgements: Sequence[Judgement], runs: pl.DataFrame) -> str:
    """That a study calls fewer epochs sufficient than the paper does, where a ticket rests on it.

    Args:
        judgements: of the study.
        runs: of the study.
    """
    winning = [j for j in judgements if j.wins or j.point_verdict in PRIZES]
    if not winning or "epochs" not in runs.columns:
        return ""
    dense = runs.filter(pl.col("setting") == settings.PRETRAIN.name)["epochs"].drop_nulls()
    if dense.is_empty():
        return ""
    dataset = winning[0].dataset
    trained, standard = int(dense.min()), STANDARD_EPOCHS.get(plain(dataset), 0)  # type: ignore[arg-type]
    if trained >= standard:
        return ""
    return (
        f" That is after {trained} epochs, which the study calls sufficient: on {dataset} the "
        f"paper asks for {standard} (condition 1), and so grants no ticket of this study."
    )


def few_images(judgement: Judgement) -> str:
    """That the test images are too few to tell what counts as similar; "" if they are not."""
    errors = [found.test_error for found in judgement.conditions if found.test_error is not None]
    if not errors or max(errors) < judgement.criteria.tolerance_for(judgement.dataset):
        return ""
    return (
        f"On {judgement.test_images:,} test images, a difference has a standard error of "
        f"{100 * max(errors):.1f} points from their number alone, and "
        f"{100 * judgement.criteria.tolerance_for(judgement.dataset):g} points count as similar."
        + (
            " The verdict is about these images, and says little of others."
            if judgement.verdict is not Verdict.UNDECIDED and _rests_on_images(judgement)
            else ""
        )
    )


def _rests_on_images(judgement: Judgement) -> bool:
    """Whether other test images might well give another verdict: two standard errors away."""
    near = {
        found.condition.name: abs(found.margin) < 2 * found.test_error
        for found in judgement.conditions
        if found.condition.verdicts and found.margin is not None and found.test_error is not None
    }
    if judgement.verdict is Verdict.NONE:
        # One that fails for sure is enough.
        failing = [f.condition.name for f in judgement.conditions if f.decision is Decision.FAILS]
        return all(near.get(name, False) for name in failing)
    return any(near.values())


def _answer(
    complete: Sequence[Judgement],
    every: Sequence[Judgement],
    plan: pl.DataFrame,
    runs: pl.DataFrame,
    looks: Sequence[LookThen],
) -> str:
    if not every:
        return "No sparse run has finished yet."
    if not complete:
        # Rounds between the sparsities that are asked for lack more.
        nearest = min(every, key=lambda j: len(j.missing))
        names = ", ".join(settings.label(name) for name in nearest.missing)
        return f"Nothing can be judged yet: runs of {names} are missing."
    best = foremost(complete)
    name = f"{settings.line(best.ticket, best.pruner)} at {wording.sparsity(best.sparsity)}"
    rate = f" at learning rate {best.learning_rate:g}" if best.learning_rate else ""
    waiting = any(j.pending for j in every)
    if best.verdict in PRIZES:
        prize = f"{name} is {_NAMES[best.verdict]}{rate}{_others(best, every)}."
        return f"So far, {prize}" if waiting else prize
    if best.verdict is Verdict.NONE:
        depths = sorted({wording.sparsity(j.sparsity) for j in complete})
        where = depths[0] if len(depths) == 1 else f"{depths[0]} to {depths[-1]}"
        of = "The one ticket" if len(complete) == 1 else f"None of {len(complete)} tickets"
        said = f"{of} at sparsity {where} {'is not' if len(complete) == 1 else 'is'} a winning one."
        return f"So far: {said[0].lower()}{said[1:]}" if waiting else said
    if best.noise is None:
        return (
            "Nothing is decided: one trial of each does not tell how much trials vary. By the "
            f"means, {_by_means(best, name, rate)}."
            + ("" if waiting else " Set trials: 3 and launch the study again.")
        )
    if best.verdict is Verdict.TICKET:
        said = f"{name} is a secondary prize ticket{rate}; whether it is a jackpot is undecided"
    else:
        said = f"{_undecided(complete)}; by the means, {_by_means(best, name, rate)}"
    if looks:
        # It adds its trials itself: more than that would spend more than its level.
        return f"{said}{', and the study has stopped' if looks[-1].why else ''}."
    return f"{said}{_more(best, plan, runs)}."


def _undecided(judgements: Sequence[Judgement]) -> str:
    """How many tickets may yet win, where none is decided to."""
    total = len(judgements)
    lost = sum(j.verdict is Verdict.NONE and not j.pending for j in judgements)
    if lost == 0:
        return "Whether any ticket wins is undecided"
    left = total - lost
    return (
        f"Of {total} tickets, {lost} {'does' if lost == 1 else 'do'} not win, and {left} "
        f"{'is' if left == 1 else 'are'} undecided"
    )


def up_to(judgements: Sequence[Judgement]) -> str:
    """The highest sparsity with a ticket, with △ where only the means give it; `–` for none."""
    decided = max((j.sparsity for j in judgements if j.wins and not j.pending), default=0.0)
    means = max((j.sparsity for j in judgements if appearance.box(j)), default=0.0)
    said = [wording.sparsity(decided)] if decided else []
    return " ".join([*said, f"△ {wording.sparsity(means)}"] if means > decided else said) or "–"


def _others(best: Judgement, every: Sequence[Judgement]) -> str:
    """What is known of a jackpot beside a secondary prize, as the end of a sentence."""
    if best.verdict is Verdict.JACKPOT or any(j.pending for j in every):
        return ""
    judged = [j for j in every if not j.missing]
    if any(j.verdict in (Verdict.UNDECIDED, Verdict.TICKET) for j in judged):
        return "; whether another is a jackpot ticket, the trials leave open"
    return "; none of those trained is a jackpot ticket"


def foremost(judgements: Sequence[Judgement]) -> Judgement:
    """The one that says most for tickets: the first in a sentence, the first to be looked at."""
    return min(judgements, key=_rank)


def _rank(judgement: Judgement) -> tuple[int, int, float]:
    """The best first: what is decided, then what the means say, then the sparser."""
    decided = [
        *(Verdict.JACKPOT, Verdict.SECONDARY, Verdict.TICKET, Verdict.UNDECIDED, Verdict.NONE),
        Verdict.NOT_ENOUGH_RUNS,
    ]
    order = decided.index(judgement.verdict)
    # A secondary prize that may yet be a jackpot says more than one that is none.
    if judgement.verdict is Verdict.TICKET:
        order = decided.index(Verdict.SECONDARY)
    means = list(_NAMES)
    point = judgement.point_verdict
    return order, means.index(point) if point in means else len(means), -judgement.sparsity


def _by_means(judgement: Judgement, name: str, rate: str) -> str:
    prize = _NAMES.get(judgement.point_verdict)
    return f"{name} would be {prize}{rate}" if prize else "none would"


def _more(judgement: Judgement, plan: pl.DataFrame, runs: pl.DataFrame) -> str:
    """What would settle it, as the end of a sentence."""
    open_ones = settle(judgement)
    wanted = settling.launch(open_ones, judgement, plan, runs)
    if wanted is None:
        return ", and more trials would not settle it: it is at the boundary"
    more = wording.count(wanted.more, "more trial")
    rates = wording.count(len(wanted.learning_rates), "learning rate")
    hours = wanted.hours
    took = "" if hours is None else f", about {wording.duration(3600 * hours)} of training"
    stuck = [found.finding.condition.symbol for found in open_ones if found.trials is None]
    if stuck:
        at_edge = f"{' and '.join(stuck)} {'is' if len(stuck) == 1 else 'are'} at the boundary"
        return f": {more} at {rates}{took} may settle part of it, and {at_edge}"
    return f": {more} at {rates}{took}"
