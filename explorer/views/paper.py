"""The accuracies that the paper prints, judged by its own definition."""

import polars as pl
import streamlit as st

from explorer import show
from jackpot import published, settings

st.title("The paper's own numbers")
st.caption(
    "What the paper prints, fed to its definition. Each number is a mean over three trials whose "
    "spread is not printed, so that conditions are read by the means alone. No accuracy of a "
    "small-dense network is printed: condition ② is left out."
)
st.subheader("What its text says, and what its numbers say")
# Whole sentences: in the other tables they would be cut.
st.table(
    pl.DataFrame(
        [
            {
                "where": statement.where,
                "the text says": statement.says,
                "its numbers say": statement.numbers,
                "agree": "✓" if statement.agrees else "×",
            }
            for statement in published.statements()
        ]
    )
)
st.subheader("Where it disagrees with itself, and no accuracy decides")
st.table(pl.DataFrame(published.CONTRADICTIONS, schema=["where", "how"], orient="row"))
st.subheader("The conditions, one by one")
show.table(
    pl.DataFrame(
        [
            {
                "printed in": name,
                "network": judgement.network,
                "pruner": settings.method(judgement.pruner),
                "sparsity": judgement.sparsity,
                "": finding.condition.symbol,
                "condition": finding.condition.words,
                "holds": {True: "✓", False: "×", None: "?"}[finding.holds],
                "margin (points)": None
                if finding.margin is None
                else round(100 * finding.margin, 2),
                "learning rates": " and ".join(f"{rate:g}" for rate in finding.learning_rates),
                "not printed": ", ".join(settings.label(s) for s in finding.missing),
            }
            for name in published.PRINTED
            for judgement in published.judged(name)
            for finding in judgement.conditions
        ]
    ),
    "paper-conditions",
)
st.subheader("The numbers")
show.table(
    pl.concat(
        [
            printed.runs().select(
                pl.lit(name).alias("printed in"),
                "network",
                "setting",
                "pruner",
                "sparsity",
                "learning_rate",
                (100 * pl.col("accuracy")).round(1).alias("accuracy (%)"),
                "epochs",
            )
            for name, printed in published.PRINTED.items()
        ]
    ),
    "paper-numbers",
)
