"""The way of an adaptive study: what was known at each look, what was added and why."""

import polars as pl
import streamlit as st

from explorer import show, sidebar
from explorer.figures import looks
from explorer.readers.frames import below_failed
from jackpot import wording
from jackpot.conditions import ALPHA

st.title("Looks")
# Before the study is: what is newer than this is drawn once more, and nothing is missed.
known = sidebar.opened().version
study = sidebar.chosen()
if not study.looks:
    st.info(
        "This study has a number of trials, and one look: the Definition page. With "
        "`trials: {from: 2, to: 8}` and `until: decided` in its config, a launch adds trials only "
        "where an undecided verdict needs them."
    )
    st.stop()
last = study.looks[-1]
said = f"{wording.count(last.runs, 'run')} asked for in {wording.count(len(study.looks), 'look')}"
lost = study.runs.filter(status="FAILED").height + len(below_failed(study.plan, study.runs))
said += f", {lost} of which failed or need one that did" if lost else ""
st.text(f"{said}: {last.why}." if last.why else f"{said} so far.")
sidebar.age(known)
data = looks.cells(study.looks, sidebar.view(study))
if data.height:
    show.figure(
        looks.chart(data),
        f"{study.name}-looks",
        f"What each look of study {study.name} said of each ticket and condition.",
    )
    st.caption(
        "★ jackpot ticket, ✓ secondary prize (of a condition: holds), ✓△ one that may be a "
        "jackpot, × no ticket (fails), △ the trials leave it open. By the study's own criteria, as "
        "the launch read them. Click a cell for its evidence now."
    )
st.header("What each look asked for", anchor=False)
show.table(looks.table(study.looks, ALPHA), f"{study.name}-looks-asked")
st.caption(
    "Looks share the level: a verdict is wrong in "
    f"{100 * ALPHA:g} % of studies at most, whenever they stop. More trials go to tickets "
    "that are not decided, and of those to learning rates that may still be the best of their "
    "setting. A study stops when all tickets are decided, or when the trials that are left would "
    "not decide them (at the boundary)."
)
asked = looks.needs(study.looks)
if asked.height:
    show.table(asked, f"{study.name}-looks-needs")
# Rounds between the sparsities that are asked for are their tickets' parents.
depths = [0.0, *(ticket.sparsity for look in study.looks for ticket in look.tickets)]
counted = looks.trials(study.accuracies().filter(pl.col("sparsity").is_in(depths)))
if counted.height:
    st.header("Where the trials went", anchor=False)
    show.figure(
        looks.trials_chart(counted),
        f"{study.name}-trials",
        f"Trials of every setting of study {study.name}, by learning rate.",
    )
