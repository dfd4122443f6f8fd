"""A verdict as text that can be cited. Pure."""

from typing import Literal

from explorer import reading
from explorer.figures import appearance
from jackpot import settings, wording
from jackpot.conditions import Verdict
from jackpot.contrasts import Decision
from jackpot.definition import Finding, Judgement

_VERDICTS = {
    Verdict.JACKPOT: "is a jackpot ticket",
    Verdict.SECONDARY: "is a secondary prize ticket",
    Verdict.TICKET: "is a winning ticket; whether it is a jackpot, the trials leave open",
    Verdict.NONE: "is no winning ticket",
    Verdict.UNDECIDED: "may or may not be a winning ticket: the trials do not decide it",
    Verdict.NOT_ENOUGH_RUNS: "cannot be judged: runs are missing",
}
_DECISIONS = {
    Decision.HOLDS: "holds",
    Decision.FAILS: "fails",
    Decision.UNDECIDED: "undecided",
    None: "runs are missing",
}


def text(judgement: Judgement, study: str, launch_id: str, which: Literal["last", "best"]) -> str:
    """What a paper would say of a verdict: margins, bounds, level, criteria, and where it is from.

    Args:
        judgement: the verdict.
        study: name.
        launch_id: MLflow run of the launch that planned the study.
        which: epoch whose accuracy counts.
    """
    criteria = judgement.criteria
    line = appearance.line(judgement.ticket, judgement.pruner)
    lines = [
        f"{line} of {judgement.network} on {judgement.dataset} at sparsity "
        f"{wording.sparsity(judgement.sparsity)} {_VERDICTS[judgement.verdict]} "
        f"(n = {appearance.span(judgement.trials)} trials; by the means alone: "
        f"{judgement.point_verdict}).",
        *(_condition(found) for found in judgement.conditions),
        "Margins are in percentage points, positive inside the condition; simultaneous bounds over "
        f"learning rates, {reading.level(criteria)}.",
        f"Similar: within {100 * criteria.tolerance_for(judgement.dataset):g} points; clear gap: "
        f"over {100 * criteria.gap:g}; non-trivial sparsity: {criteria.sparsity:g}; sufficient "
        f"epochs: {criteria.epochs_for(judgement.dataset):g}; decent rate: dense within "
        f"{100 * criteria.floor:g}; {criteria.reading} reading; rates chosen on "
        f"{'test' if criteria.rate_by == 'test' else 'held-out'} images; {which} epoch"
        f"{'; masks of any rate' if criteria.any_rate else ''}.",
    ]
    if judgement.assumed:
        lines.append(f"Assumed: {', '.join(judgement.assumed)}.")
    if judgement.pending:
        lines.append(f"So far: {judgement.pending} planned runs are to come.")
    lines.append(f"Study {study}, launch {launch_id}.")
    return "\n".join(lines)


def _condition(found: Finding) -> str:
    said = f"{found.condition.symbol} {found.condition.words}: {_DECISIONS[found.decision]}"
    if found.margin is None:
        missing = ", ".join(settings.label(name) for name in found.missing)
        return f"{said} ({missing})" if missing else said
    rates = " and ".join(f"{rate:g}" for rate in found.learning_rates)
    bounds = "no bounds"
    if found.low is not None and found.high is not None:
        bounds = f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    return f"{said}, margin {100 * found.margin:+.2f} ({bounds}), at learning rates {rates}"
