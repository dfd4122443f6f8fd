"""Figure 6: correlation between initial and trained weights, against learning rate."""

import polars as pl
import streamlit as st

from explorer import asked, correlating, show, sidebar
from explorer.figures import correlation as figure
from jackpot import correlation, settings, stores, wording
from jackpot.trials import OWN_RATE

st.title("Correlation")
study = sidebar.chosen()
finished = study.runs.filter(pl.col("status") == "FINISHED", OWN_RATE)
p = st.slider("p: share of the largest weights", 0.01, 0.5, 0.1, 0.01, key="p", bind="query-params")
trained_by = st.radio(
    "Trained weights of",
    [correlating.OF_PRETRAINING, correlating.OF_ITSELF],
    key="trained_by",
    bind="query-params",
    horizontal=True,
)
sparse = finished.filter(pl.col("pruner").is_not_null())
if sparse.is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()
choices = sparse.select("pruner", "sparsity").unique().sort("sparsity", "pruner").rows()
labels = {
    f"{settings.method(pruner)} at {wording.sparsity(s)}": (pruner, s) for pruner, s in choices
}
trials = max(finished["trial"].to_list())
if trials > 3:
    # A pair takes up to a second the first time.
    wanted = st.number_input("Trials", 1, trials, 3, key="trials", bind="query-params")
    finished = finished.filter(pl.col("trial") <= wanted)
pruner, sparsity = labels[asked.one("Mask", list(labels), "mask", list(labels)[-1])]
with st.spinner("comparing weights …"):
    found = correlating.compare(stores.tracking_uri(), finished, pruner, sparsity, p, trained_by)
if found.gone:
    said = wording.count(len(found.gone), "run")
    st.warning(f"{said} could not be compared.")
    with st.expander("Why"):
        st.text("\n".join(found.gone[:5]))
if found.means.is_empty():
    st.stop()
name = f"{study.name}-correlation"
show.figure(
    figure.panel(found.means, p),
    name,
    f"Correlation indicator of study {study.name} against the learning rate.",
)
st.caption(
    "Share of the largest weights (by magnitude, within each layer) that two sets of weights "
    "have in common, over the layers that are pruned; the dashed line is what independent weights "
    "give. θ_T are pretraining's weights after its last epoch, (…)_T those of the subnetwork after "
    "its own. Bars: one standard deviation over trials."
)
few = found.layers.filter(~pl.col("counts"))["layer"].unique().len()
if few:
    st.caption(
        f"{few} of {found.layers['layer'].unique().len()} layers do not count somewhere: of so few "
        f"weights (p times their number is below {correlation.LEAST_TOP}), independent ones have "
        "more in common than p. The table marks them."
    )
with st.expander("Numbers"):
    show.table(found.means.drop("setting"), name)
with st.expander("By layer"):
    show.table(
        found.layers.group_by("pair", "learning_rate", "layer", maintain_order=True).agg(
            pl.col("correlation").mean(),
            pl.col("weights").mean(),
            # How many of the trials' values are part of R_p.
            pl.col("counts").sum().alias("trials that count"),
        ),
        f"{name}-by-layer",
    )
