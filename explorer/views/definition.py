"""The five conditions as a checklist, at every sparsity."""

import io
from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from explorer import answer, asked, links, reading, settling, show, sidebar, snapshot
from explorer.figures import appearance, definition
from explorer.readers import StoreUnavailable
from jackpot import citation, settings, stores, wording
from jackpot.conditions import STANDARD_EPOCHS, Criteria, Verdict, plain
from jackpot.contract import Artifact
from jackpot.contrasts import MARKS
from jackpot.definition import Judgement
from jackpot.settling import at_an_end, settle


def points(value: float | None) -> float | None:
    """A fraction in percentage points."""
    return None if value is None else round(100 * value, 2)


def row(judgement: Judgement, view: Mapping[str, str]) -> dict[str, Any]:
    """One line of the overview of all sparsities."""
    conditions = {f.condition.symbol: MARKS[f.decision] for f in judgement.conditions}
    return {
        "pruner": settings.method(judgement.pruner),
        "sparsity": judgement.sparsity,
        **conditions,
        "verdict": str(judgement),
        "by the means": str(judgement.point_verdict),
        "evidence": links.page("definition", **view, detail=appearance.ticket(judgement)),
    }


def cautions(
    judgement: Judgement, criteria: Criteria, asked_for_heldout: bool = False
) -> list[str]:
    """What a reader of a verdict should know about it, a sentence each."""
    said = []
    if judgement.verdict not in (judgement.point_verdict, Verdict.NOT_ENOUGH_RUNS):
        said.append(f"If more trials came out as these did: {judgement.point_verdict}.")
    standard = STANDARD_EPOCHS.get(plain(judgement.dataset), 0)
    if criteria.epochs is not None and criteria.epochs < standard:
        said.append(
            f"This study calls {criteria.epochs:g} epochs sufficient (condition 1); on "
            f"{judgement.dataset} the paper asks for {standard}."
        )
    if judgement.assumed:
        said.append(
            f"Assumed, as the paper does not name {judgement.dataset}: "
            f"{', '.join(judgement.assumed)}. Set them in the sidebar, or in the study."
        )
    if asked_for_heldout and criteria.rate_by == "test":
        said.append("This study holds no images out: its rates are chosen on test images.")
    if judgement.void:
        symbols = " and ".join(condition.symbol for condition in judgement.void)
        said.append(
            f"{settings.method(judgement.pruner)} draws its masks and looks at no weight: by "
            f"construction, {symbols} cannot hold. Where it is said to, the judge is wrong."
        )
    if settings.find(judgement.ticket).needs_training:
        said.append(
            "LRR has trained through one schedule more than its mask has rounds; RR, small-dense "
            "and dense networks through one. ②, ③ and ⑤ compare them nevertheless, as published "
            "claims do"
            + (
                "; L compares it with the dense network trained as long."
                if any(f.condition.name == "L" for f in judgement.conditions)
                else f". Add the setting {settings.AS_LONG.name} for a dense network trained as "
                "long."
            )
        )
    if judgement.diverged:
        rates = ", ".join(f"{settings.label(n)} at {rate:g}" for n, rate in judgement.diverged)
        said.append(
            "A trial diverged, or ended less than half as accurate as another at the same rate, so "
            f"that these rates cannot win: {rates}."
        )
    if few := answer.few_images(judgement):
        said.append(few)
    ends = ", ".join(
        f"{settings.label(end.setting)} at the {'largest' if end.is_largest else 'smallest'}, "
        f"{end.learning_rate:g}"
        for end in at_an_end(judgement)
    )
    if ends:
        said.append(f"Best at an end of the learning rates, and maybe better beyond it: {ends}.")
    if judgement.single and judgement.trials[1] > 1:
        names = ", ".join(settings.label(name) for name in judgement.single)
        said.append(f"One trial somewhere, which borrows the others' variance: {names}.")
    return said


@st.cache_data(ttl=300, max_entries=1000, show_spinner=False)
def written_config(uri: str, launch_id: str) -> dict[str, Any] | None:
    """The config of a launch; None if it cannot be read, which is asked again after a while."""
    try:
        with snapshot.snapshot(uri).store.artifact(launch_id, Artifact.LAUNCH_CONFIG) as path:
            return dict(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except (StoreUnavailable, YAMLError, TypeError, ValueError, RecursionError):
        return None


def yaml_of(values: dict[str, Any]) -> str:
    """As a config file."""
    text = io.StringIO()
    YAML().dump(values, text)
    return text.getvalue()


st.title("Definition")
study = sidebar.chosen()
chosen, which = sidebar.criteria()
judgements = study.judged(chosen, which, sidebar.conditions())
criteria = study.read_by(chosen)
changed = reading.changes(criteria, which, study.said)
show.chips(changed)
if not judgements:
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()
# Rounds between the sparsities that are asked for come last.
rows = sorted(judgements, key=lambda j: bool(j.missing))
show.table(
    pl.DataFrame([row(j, sidebar.view(study)) for j in rows]),
    f"{study.name}-conditions",
    evidence=st.column_config.LinkColumn(display_text="open"),
)
labels: dict[str, Judgement] = {}
for j in judgements:
    name = appearance.ticket(j)
    # A pruner of a user's own may have the short name of another.
    labels[name if name not in labels else f"{j.pruner} at {wording.sparsity(j.sparsity)}"] = j
first = answer.foremost([j for j in judgements if not j.missing] or judgements)
default = next(label for label, j in labels.items() if j is first)
label = asked.one("Ticket in detail", list(labels), "detail", default)
judgement = labels[label]
# Of a ticket that an earlier look has decided, the level of that look.
level = citation.level(judgement.criteria)
st.subheader("Verdict", anchor=False)
st.text(f"{label}: {judgement} ({wording.span(judgement.trials)} trials, {level})")
for note in cautions(judgement, criteria, chosen.rate_by == "heldout"):
    st.text(note)
show.table(
    pl.DataFrame(
        [
            {
                "": c.condition.symbol,
                "condition": c.condition.words,
                "holds": MARKS[c.decision],
                "margin (points)": points(c.margin),
                "from": points(c.low),
                "to": points(c.high),
                "at rates": " and ".join(f"{rate:g}" for rate in c.learning_rates),
                "missing": ", ".join(settings.label(name) for name in c.missing),
                "s.e. of the test set": points(c.test_error),
            }
            for c in judgement.conditions
        ],
        schema_overrides=dict.fromkeys(
            ("margin (points)", "from", "to", "s.e. of the test set"), pl.Float64
        ),
    ),
    f"{study.name}-{label.replace(' ', '-')}",
)
if any(c.margin is not None for c in judgement.conditions):
    show.figure(
        definition.chart(definition.comparisons(judgement)),
        f"{study.name}-definition-{label.replace(' ', '-')}",
        f"Margins of the conditions for {label}, and the bounds that decide.",
        reading.footnote([*changed, *([level] if judgement.criteria.share < 1 else [])]),
    )
open_conditions = settle(judgement)
if judgement.verdict in (Verdict.UNDECIDED, Verdict.TICKET) and open_conditions:
    st.subheader("What would settle it", anchor=False)
    for found in open_conditions:
        st.text(settling.sentence(found))
    # How many trials an adaptive study may have was said before it began: its looks share the
    # level by that number, which the data may not choose.
    wanted = None
    if study.looks:
        st.text(
            "This study adds its trials itself, up to the number that it was given beforehand. For "
            "more, ask again: with another seed."
        )
    else:
        wanted = settling.launch(open_conditions, judgement, study.plan, study.runs)
    if wanted is not None:
        cost = ""
        if wanted.hours is not None:
            cost = f", about {wording.duration(3600 * wanted.hours)} one after another"
        st.text(
            f"With a chance of 80 %, if the margins are as the means say: {wanted.trials} trials "
            f"at {', '.join(f'{rate:g}' for rate in wanted.learning_rates)}, which is "
            f"{wanted.runs} more runs{cost}."
        )
        written = written_config(stores.tracking_uri(), study.launch_id)
        if written is not None:
            with st.expander("Config to copy"):
                st.code(
                    yaml_of(settling.config(written, wanted, judgement)), "yaml", wrap_lines=True
                )
if judgement.noise is None and not judgement.missing and not judgement.pending:
    st.text("Nothing tells how much trials vary: set trials: 3 in the config and launch it again.")
with st.expander("Copy as text"):
    st.code(citation.text(judgement, study.name, study.launch_id, which), None, wrap_lines=True)
if judgement.verdict == Verdict.NOT_ENOUGH_RUNS and judgement.pending:
    st.info(f"Not enough runs yet: {wording.count(judgement.pending, 'planned run')} to come.")
elif judgement.verdict == Verdict.NOT_ENOUGH_RUNS:
    st.info(
        "Not enough runs. To judge this sparsity, have in the config: "
        f"settings {', '.join(judgement.missing)}, and sparsity {judgement.sparsity:.7g} to "
        "pruning.sparsities; then launch the study again, which trains only what is new."
    )
st.caption(
    "✓ holds, × fails, △ the trials leave it open, ? runs are missing. Margins are in percentage "
    "points; positive is inside the condition. It holds if all from … to is above 0, and fails if "
    "all of it is below: these bounds leave room for the learning rates having been chosen as the "
    f"best, and a verdict is wrong in {100 * criteria.alpha:g} % of studies at most"
    f"{', over all looks' if criteria.share < 1 else ''}. One trial of each decides nothing."
)
