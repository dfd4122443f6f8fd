"""The app: does the ticket really win? `python -m explorer` serves it.

Reads $MLFLOW_TRACKING_URI, else `sqlite:///mlflow.db` in the current folder.
"""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).parents[1]))
from explorer import show

# Not in a folder called `pages`: Streamlit would serve its files on their own, past this one.
PAGES = {
    "": [st.Page("views/overview.py", title="Overview", default=True)],
    "Study": [
        st.Page("views/learning_rate.py", title="Accuracy vs learning rate"),
        st.Page("views/sparsity.py", title="Accuracy vs sparsity"),
        st.Page("views/definition.py", title="Definition"),
        st.Page("views/looks.py", title="Looks"),
        st.Page("views/correlation.py", title="Correlation"),
        st.Page("views/ablation.py", title="Learning-rate ablation"),
        st.Page("views/landscape.py", title="Loss landscape"),
    ],
    "All studies": [
        st.Page("views/across.py", title="Across studies"),
        st.Page("views/guideline.py", title="Guideline"),
        st.Page("views/paper.py", title="The paper's own numbers"),
    ],
    "Evidence": [
        st.Page("views/curves.py", title="Training curves"),
        st.Page("views/runs.py", title="Runs and tickets"),
        # Reached by links from figures and tables.
        st.Page("views/point.py", title="One point", visibility="hidden"),
    ],
}

page = st.navigation(PAGES, position="hidden")
st.set_page_config(
    page_title=f"{page.title} · Jackpot",
    page_icon=str(Path(__file__).parent / "favicon.png"),
    layout="wide",
)
# A menu of our own: Streamlit's is a list whose items a screen reader does not find.
with st.sidebar, st.container(gap=None):
    for group, pages in PAGES.items():
        if group:
            st.caption(group)
        for one in pages:
            if one.visibility == "visible":
                st.page_link(one)
show.page()
page.run()
