"""Figure 3: accuracy against learning rate."""

import polars as pl
import streamlit as st

from explorer import asked, lines, links, published, reading, show, sidebar
from explorer.figures import appearance, by_learning_rate
from explorer.figures.points import points
from jackpot import wording

st.title("Accuracy vs learning rate")
study = sidebar.chosen()
chosen, which = sidebar.criteria()
runs = study.accuracies(which)
if runs.filter(pl.col("sparsity") > 0).is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()

judgements = study.judged(chosen, which, sidebar.conditions())
criteria = study.read_by(chosen)
changed = reading.changes(criteria, which)
show.chips(changed)
sparsities = runs.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
# Where every setting was trained there is something to compare.
compared = [j.sparsity for j in judgements if not j.missing] or sparsities
labels = {wording.sparsity(s): s for s in sparsities}
shown = asked.some(
    "Sparsities", list(labels), "sparsities", [lb for lb, s in labels.items() if s in compared][:6]
)
shown_settings = lines.chosen(runs, criteria)
wanted = links.of_points(runs, sidebar.view(study)).filter(
    (pl.col("sparsity") == 0) | pl.col("sparsity").is_in([labels[s] for s in shown]),
    pl.col("setting").is_in(shown_settings),
)
if not shown or wanted.filter(pl.col("sparsity") > 0).is_empty():
    st.info("Choose at least one sparsity and one sparse setting.")
    st.stop()
dataset = str(runs["dataset"][0])
drawn = by_learning_rate.panels(wanted, judgements, criteria, dataset)
data = published.asked(drawn, wanted)
name = f"{study.name}-accuracy-vs-learning-rate"
alone = show.key(appearance.legend(data, by_learning_rate.boxes(data)), name)
show.figure(
    by_learning_rate.chart(data),
    name,
    f"Accuracy of every setting of study {study.name} against the learning rate, by sparsity.",
    reading.footnote(changed),
    shown=by_learning_rate.chart(data, alone) if alone else None,
)
means = points(wanted)
to_come = study.pending.height
trials = means["trials"].to_list()
counted = wording.span((min(trials), max(trials)))
st.caption(
    f"Points are means over n = {counted} trials, bars one standard deviation; broken lines and "
    "paler points are pruners other than IMP. The band reaches from the best pretraining accuracy "
    "down to the tolerance. "
    + (
        "A box marks a ticket, by the means; it is solid where the trials decide that, and dashed "
        "where they leave it open. "
        if by_learning_rate.boxes(data)
        else "Tickets are not boxed where masks of another rate count. "
        if criteria.any_rate
        else "No point makes a ticket, by the means. "
    )
    + "Click the legend to single out a line, a point to see what it rests on."
    + (f" {wording.count(to_come, 'planned run')} to come." if to_come else "")
)
published.table(data, wanted, name)
show.numbers(means, name)
