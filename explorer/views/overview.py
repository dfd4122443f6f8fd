"""Every study's answer at a glance, and what the questions mean."""

from pathlib import Path

import polars as pl
import streamlit as st

from explorer import answer, links, reading, show, sidebar, snapshot
from explorer.figures import verdicts
from jackpot.conditions import Verdict
from jackpot.definition import Judgement

ASKED = Path(__file__).parents[1] / "asked.md"
# Maps of more studies are shown when they are asked for.
FEW = 4


def shown(judgements: list[Judgement]) -> list[Judgement]:
    """Those at whose sparsities every setting was trained, if there are any."""
    return [j for j in judgements if not j.missing] or judgements


def one(study: snapshot.Study, judgements: list[Judgement], is_open: bool) -> None:
    """A study's sentence, its map of verdicts, and where to read on."""
    st.subheader(show.plain(study.name), anchor=False)
    if not study.plan.height:
        st.warning("The plan of its launch cannot be read, so its runs are not known.")
        return
    said = answer.sentence(judgements, study.plan, study.runs, study.looks)
    st.markdown(show.plain(said))
    pages = {
        **({"looks": "Looks"} if study.looks else {}),
        "definition": "Conditions and margins",
        "learning_rate": "Accuracy vs learning rate",
        "runs": "Runs and tickets",
    }
    st.markdown(
        " · ".join(
            f"[{label}]({links.page(name, **sidebar.view(study))})" for name, label in pages.items()
        )
    )
    if not judgements:
        return
    changed = reading.changes(judgements[0].criteria, which, study.said)
    show.chips(changed)
    if not is_open:
        return
    cells = verdicts.cells(shown(judgements), sidebar.view(study))
    name = f"{study.name}-verdicts"
    show.figure(
        verdicts.chart(cells),
        name,
        f"Verdict and conditions of every ticket of study {study.name}.",
        reading.footnote(changed),
        panels={
            f"{pruner} of {network} on {dataset}": verdicts.panel(here)
            for (network, dataset, pruner), here in cells.group_by(
                "network", "dataset", "pruner", maintain_order=True
            )
        },
    )
    with st.expander("As a table"):
        show.table(
            cells.select("pruner", "sparsity", "row", "mark", "means", evidence="link"),
            name,
            evidence=st.column_config.LinkColumn(display_text="open"),
        )


st.title("Does your winning ticket really win?")
known = sidebar.opened()
studies = snapshot.studies(known)
criteria, which = sidebar.criteria()
conditions = sidebar.conditions()
sidebar.age(known.version)
judged = [(study, study.judged(criteria, which, conditions)) for study in studies]
every = len(judged) <= FEW or st.toggle(
    f"Show the maps of all {len(judged)} studies", key="all_maps", bind="query-params"
)
st.caption(
    "★ jackpot ticket, ✓ secondary prize (of a condition: holds), × no ticket (fails), △ the "
    "trials leave it open, ? runs are missing. What the trials decide is filled, what they leave "
    "open is grey; a verdict's border then has the colour of the prize that the means give. M and "
    "L stand beside the five conditions, and no verdict rests on them. Click a cell for its "
    "evidence. Sparsities at which a setting was not trained are left out."
)
for i, (study, judgements) in enumerate(judged):
    one(study, judgements, every or i < FEW)

st.header("Studies", anchor=False)
progress = []
for study, judgements in judged:
    counts = dict(study.runs.group_by("status").len().iter_rows())
    decided = [j for j in judgements if j.verdict is not Verdict.NOT_ENOUGH_RUNS]
    progress.append(
        {
            "study": study.name,
            "ticket up to sparsity": answer.up_to(decided),
            "done": counts.get("FINISHED", 0) / max(study.plan.height, 1),
            "evidence": links.page("definition", **sidebar.view(study)),
            "planned": study.plan.height,
            "finished": counts.get("FINISHED", 0),
            "running": counts.get("RUNNING", 0),
            "failed": counts.get("FAILED", 0),
            "interrupted": counts.get("KILLED", 0),
            "launch": study.launch if study.plan.height else f"{study.launch} (its plan is gone)",
        }
    )
show.table(
    pl.DataFrame(progress, infer_schema_length=None),
    "studies",
    done=st.column_config.ProgressColumn("done", min_value=0, max_value=1, format="percent"),
    evidence=st.column_config.LinkColumn(display_text="open"),
)

st.header("What is being asked", anchor=False)
st.markdown(ASKED.read_text(encoding="utf-8"))
