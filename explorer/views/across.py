"""Studies side by side: Table 3, figure 3's grid, figure 1's recipes, figure 6's networks."""

import polars as pl
import streamlit as st

from explorer import asked, correlating, links, reading, show, sidebar, snapshot, tables
from explorer.figures import appearance, by_learning_rate, correlation, recipes
from explorer.figures.points import points
from jackpot import settings, stores, wording
from jackpot.marks import NAMES, marks
from jackpot.trials import OWN_RATE

st.title("Across studies")
known = sidebar.opened()
criteria, which = sidebar.criteria()
conditions = sidebar.conditions()
changed = reading.changes(criteria, which)
every = {study.name: study for study in snapshot.studies(known)}
names = asked.some("Studies", list(every), "across", list(every)[:6])
chosen = [every[name] for name in names]
own = {study.name: reading.changes(study.read_by(criteria), which, study.said) for study in chosen}
show.chips(changed)
show.chips([f"{name}: {said}" for name, of in own.items() for said in of if said not in changed])
runs = {study.name: study.accuracies(which) for study in chosen}
sparse = [frame.filter(pl.col("sparsity") > 0) for frame in runs.values()]
if not sparse or all(frame.is_empty() for frame in sparse):
    st.info("Choose a study of which a sparse run has finished.")
    st.stop()

st.header("Table 3: what tickets there are", anchor=False)
rows = [
    (study.name, network, dataset, str(found))
    for study in chosen
    for (network, dataset), (found, _) in marks(
        study.accuracies(which, any_rate=criteria.any_rate),
        study.read_by(criteria),
        study.pending,
        conditions,
    ).items()
]
table = tables.table_3(rows)
show.table(table, "table-3", tables.table_3_latex(table))
st.caption(
    f"In this order: {', '.join(NAMES)}. ✓ yes, × no, △ the trials leave it open, ? not enough "
    f"runs. A ticket exists if there is one at any sparsity of {criteria.sparsity:g} or more; the "
    "more are looked at, the surer each must be (Holm). A small learning rate is preferred where, "
    "at most of these sparsities, the best ticket is trained at a smaller one than the best dense "
    f"network; IMP where at most of them the best LT-IMP is over {100 * criteria.gap:g} points "
    "better than the best LT-OMP; a study's own criteria stand in their place. The paper's marks "
    "are for its recipe and all its sparsities."
)

# OMP's 0.59 and IMP's 0.5904 are written alike, and meet.
depths: dict[str, list[float]] = {}
for value in pl.concat(sparse)["sparsity"].unique().sort().to_list():
    depths.setdefault(wording.sparsity(value), []).append(value)
label = asked.one("Sparsity", list(depths), "across_sparsity", list(depths)[-1])


def at_depth(frame: pl.DataFrame) -> pl.DataFrame:
    """Dense runs, and those at the chosen sparsity."""
    return frame.filter((pl.col("sparsity") == 0) | pl.col("sparsity").is_in(depths[label]))


st.header("Figure 3: accuracy against learning rate", anchor=False)
grid = []
for study in chosen:
    judgements = study.judged(criteria, which, conditions)
    for (network, dataset), here in at_depth(runs[study.name]).group_by(
        "network", "dataset", maintain_order=True
    ):
        read = study.read_by(criteria)
        # The paper's figure has no WR; where it is the ticket, ours has.
        wanted_settings = (pl.col("setting") != settings.WR.name) | (
            pl.col("setting") == read.ticket
        )
        wanted = links.of_points(here.filter(wanted_settings), sidebar.view(study))
        panel = by_learning_rate.panels(
            wanted,
            [j for j in judgements if (j.network, j.dataset) == (network, dataset)],
            read,
            str(dataset),
        )
        title = f"{network} on {dataset} ({study.name})"
        grid.append(panel.with_columns(pl.lit(title).alias("panel")))
lacking = [
    study.name
    for study in chosen
    if at_depth(runs[study.name]).filter(pl.col("sparsity") > 0).is_empty()
]
if lacking:
    st.caption(show.plain(f"Not trained at sparsity {label}: {', '.join(lacking)}."))
data = pl.concat(grid)
if data.is_empty():
    st.info("None of these studies was trained at this sparsity.")
else:
    alone = show.key(appearance.legend(data, by_learning_rate.boxes(data)), "across-3")
    show.figure(
        # Each network has its own axes.
        by_learning_rate.chart(data, has_shared_axes=False),
        "across-accuracy-vs-learning-rate",
        f"Accuracy against learning rate at sparsity {label} for {len(grid)} networks.",
        reading.footnote(changed),
        shown=by_learning_rate.chart(data, alone, has_shared_axes=False) if alone else None,
    )

    with st.expander("Numbers"):
        show.table(
            data.select("panel", "line", "learning_rate", "accuracy", "deviation", "trials", "box"),
            "across-accuracy-vs-learning-rate",
        )

st.header("Figure 1: recipes", anchor=False)
shown = pl.concat(
    [
        points(links.of_points(runs[study.name], sidebar.view(study))).with_columns(
            pl.lit(study.name).alias("study")
        )
        for study in chosen
        if not runs[study.name].is_empty()
    ]
).with_columns(
    pl.col("learning_rate").map_elements("{:g}".format, pl.String).alias("learning rate")
)
trained = settings.ordered(shown["setting"])
lines = st.pills(
    "Settings",
    trained,
    selection_mode="multi",
    default=[s for s in trained if s in ("pretrain", "lt", "rr")],
    format_func=lambda name: show.plain(settings.label(name)),
    key="across_settings",
    bind="query-params",
)
rates = shown["learning rate"].unique(maintain_order=True).to_list()
rates = sorted(rates, key=float)
rate = asked.one("Learning rate at which studies meet", rates, "across_rate", rates[0])
pruners = [m for m in shown["method"].unique().sort() if m != settings.DENSE]
if not pruners:
    st.info("None of these studies has a network with a mask yet.")
    st.stop()
pruner = asked.one("Pruner", pruners, "across_pruner", "IMP" if "IMP" in pruners else pruners[0])
shown = shown.filter(
    pl.col("setting").is_in(lines or [settings.PRETRAIN.name]),
    pl.col("method").is_in([settings.DENSE, pruner]),
)
if shown.is_empty():
    st.info("Choose a setting.")
else:
    panels = {
        f"{name}, each rate": recipes.panel(here, "learning rate", shown)
        for (name,), here in shown.group_by("study", maintain_order=True)
    }
    met = shown.filter(pl.col("learning rate") == rate)
    if len(chosen) > 1 and not met.is_empty():
        panels[f"all studies at learning rate {rate}"] = recipes.panel(met, "study", shown)
    show.figure(
        recipes.chart(panels),
        "across-accuracy-vs-sparsity",
        "Accuracy against sparsity by study and learning rate.",
        reading.footnote(changed),
        panels,
    )
    with st.expander("Numbers"):
        show.table(
            shown.select(
                "study", "line", "sparsity", "learning_rate", "accuracy", "deviation", "trials"
            ),
            "across-accuracy-vs-sparsity",
        )

st.header("Figure 6: correlation of weights", anchor=False)
if st.toggle("Compare weights (seconds per run)", key="across_weights", bind="query-params"):
    p, gone = 0.1, 0
    found = []
    with st.spinner("comparing weights …"):
        for study in chosen:
            finished = study.runs.filter(pl.col("status") == "FINISHED", OWN_RATE)
            masks = finished.filter(
                pl.col("pruner").is_not_null(), pl.col("sparsity").is_in(depths[label])
            )
            for name, exact in masks.select("pruner", "sparsity").unique().sort("pruner").rows():
                if settings.method(name) != pruner:
                    continue
                made = correlating.compare(
                    stores.tracking_uri(), finished, name, exact, p, correlating.OF_PRETRAINING
                )
                gone += len(made.gone)
                found.append(made.means.with_columns(pl.lit(study.name).alias("panel")))
    if gone:
        st.warning(f"{wording.count(gone, 'run')} could not be compared.")
    compared = pl.concat(found) if found else None
    if compared is None or compared.is_empty():
        st.info("None of these studies has masks of this pruner at this sparsity.")
    else:
        show.figure(
            correlation.chart(compared, p),
            "across-correlation",
            f"Correlation of weights at sparsity {label} by study.",
            panels={
                str(name): correlation.panel(here, p)
                for (name,), here in compared.group_by("panel", maintain_order=True)
            },
        )
        with st.expander("Numbers"):
            show.table(compared.drop("setting"), "across-correlation")
