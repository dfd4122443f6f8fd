"""A verdict as text that can be cited. Pure."""

from collections.abc import Mapping
from typing import Literal

from jackpot import settings, wording
from jackpot.conditions import Criteria, Verdict
from jackpot.contrasts import MARKS, Decision
from jackpot.definition import Finding, Judgement
from jackpot.looks import TicketThen

_VERDICTS: Mapping[str, str] = {
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


def level(criteria: Criteria) -> str:
    """How often a verdict may be wrong, and what of that a look may spend.

    >>> level(Criteria()), level(Criteria(share=0.25))
    ('level 5 %', 'level 1.25 % at this look, 5 % over all looks')
    """
    if criteria.share == 1:
        return f"level {100 * criteria.alpha:g} %"
    here, all_looks = 100 * criteria.level, 100 * criteria.alpha
    return f"level {here:g} % at this look, {all_looks:g} % over all looks"


def text(judgement: Judgement, study: str, launch_id: str, which: Literal["last", "best"]) -> str:
    """What a paper would say of a verdict: margins, bounds, level, criteria, and where it is from.

    Args:
        judgement: the verdict.
        study: name.
        launch_id: MLflow run of the launch that planned the study.
        which: epoch whose accuracy counts.
    """
    criteria = judgement.criteria
    line = settings.line(judgement.ticket, judgement.pruner)
    lines = [
        f"{line} of {judgement.network} on {judgement.dataset} at sparsity "
        f"{wording.sparsity(judgement.sparsity)} {_VERDICTS[judgement.verdict]} "
        f"(n = {wording.span(judgement.trials)} trials; by the means alone: "
        f"{judgement.point_verdict}).",
        *(_condition(found) for found in judgement.conditions),
        "Margins are in percentage points, positive inside the condition; simultaneous bounds over "
        f"learning rates, {level(criteria)}.",
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
        lines.append(f"So far: {wording.count(judgement.pending, 'planned run')} to come.")
    lines.append(f"Study {study}, launch {launch_id}.")
    return "\n".join(lines)


def recorded(setting: str, ticket: TicketThen, study: str, launch_id: str) -> str:
    """What a look of an adaptive study has recorded of a ticket.

    Args:
        setting: of the ticket.
        ticket: as the study's last look has it.
        study, launch_id: see `text`.
    """
    decisions = [f"{name} {MARKS[decision]}" for name, decision in ticket.decisions.items()]
    line = settings.line(setting, ticket.pruner)
    return "\n".join(
        [
            f"{line} at sparsity {wording.sparsity(ticket.sparsity)} "
            f"{_VERDICTS[ticket.verdict]}, by look {ticket.look} of its study.",
            f"Conditions: {', '.join(decisions)}.",
            f"Study {study}, launch {launch_id}.",
        ]
    )


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
