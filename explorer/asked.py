"""Choices that a link can name. What it names and is not there is said, not passed over."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st


def one(
    label: str,
    options: Sequence[str],
    key: str,
    default: str,
    format_func: Callable[[str], str] = str,
) -> str:
    """A choice of one. The address always names it.

    Args:
        label: of the choice.
        options: as the address names them.
        key: in the address.
        default: where neither the address nor this session names one that is there.
        format_func: how an option is shown.
    """
    # Not bound to the widget: Streamlit's own binding leaves the default out of the address.
    mine = st.session_state.get(_kept(key))
    named = st.query_params.get(key)
    _said(key, label, [named] if named and named != mine else [], options)
    known = named or mine
    chosen = str(known) if known in options else default
    st.session_state[_kept(key)] = st.session_state[_widget(key)] = chosen
    st.query_params[key] = chosen
    st.selectbox(
        label, options, format_func=format_func, key=_widget(key), on_change=_take, args=(key,)
    )
    return chosen


def _take(key: str) -> None:
    """The widget's new value goes to the address, from which `one` reads it."""
    st.query_params[key] = st.session_state[_widget(key)]
    forget(key)


def some(
    label: str,
    options: Sequence[Any],
    key: str,
    default: Sequence[Any] = (),
    format_func: Callable[[Any], str] = str,
    **how: Any,
) -> list[Any]:
    """A choice of several; the link names it where it is not the default.

    Args:
        label: of the choice.
        options: what can be chosen.
        key: in the link.
        default: where the link names none.
        format_func: how an option is shown, and named in the link.
        how: further arguments of `st.multiselect`.
    """
    mine = st.session_state.get(_kept(key), [])
    named = [value for value in st.query_params.get_all(key) if value and value not in mine]
    _said(key, label, named, [format_func(option) for option in options])
    chosen = st.multiselect(
        label,
        options,
        default=list(default) or None,
        format_func=format_func,
        key=key,
        bind="query-params",
        on_change=forget,
        args=(key,),
        **how,
    )
    # What this session has chosen of another study is no link to what is not there.
    st.session_state[_kept(key)] = list(dict.fromkeys([*mine, *map(format_func, chosen)]))
    return chosen


def check(label: str, options: Sequence[str], key: str) -> None:
    """Says what the link names and is not there, of a widget that is bound to it and drops that.

    Args:
        label: of the widget, which is to call `forget` when something is chosen.
        options: as the address names them.
        key: in the address.
    """
    _said(key, label, st.query_params.get_all(key), options)


def _said(key: str, label: str, named: Sequence[str], options: Sequence[str]) -> None:
    """A warning about what the link names and is not there, until something else is chosen."""
    gone = [value for value in named if value not in options]
    if gone:
        st.session_state[_gone(key)] = gone
    for value in st.session_state.get(_gone(key), []):
        if value not in options:
            st.warning(f"The link names something under “{label}” that is not here:")
            st.text(value)


def _kept(key: str) -> str:
    """Where a session keeps a choice while another page is open, whose address may lack it."""
    return f"chosen: {key}"


def _widget(key: str) -> str:
    return f"{key}_choice"


def _gone(key: str) -> str:
    return f"not there: {key}"


def forget(key: str) -> None:
    """Something else has been chosen than the link named."""
    st.session_state.pop(_gone(key), None)
