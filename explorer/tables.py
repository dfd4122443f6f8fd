"""Tables as files: CSV that a spreadsheet takes for data, LaTeX that compiles. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from pylatexenc.latexencode import (
    RULE_DICT,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
)

from jackpot import settings, wording
from jackpot.marks import PUBLISHED

NEEDS = "% Needs \\usepackage{amssymb,booktabs}."
PAPER = "Ma et al. (2021)"
_SYMBOLS = {
    **{ord("①") + i: rf"\textcircled{{\scriptsize {i + 1}}}" for i in range(9)},
    ord("△"): r"\ensuremath{\triangle}",
    ord("✓"): r"\ensuremath{\checkmark}",
    ord("×"): r"\ensuremath{\times}",
    ord("′"): r"\ensuremath{'}",
    ord("?"): "?",
    # At the beginning of a row they would be arguments of the end of the one before.
    **{ord(c): f"{{{c}}}" for c in "[]*"},
    # Two of these would be one dash, or a quotation mark.
    ord("-"): "{-}",
    ord("'"): "{'}",
    ord("`"): "{`}",
    ord("|"): r"\textbar{}",
    **dict.fromkeys((ord("\n"), ord("\r"), ord("\t")), " "),
}
_ENCODER = UnicodeToLatexEncoder(
    conversion_rules=[UnicodeToLatexConversionRule(RULE_DICT, _SYMBOLS), "defaults"],
    replacement_latex_protection="braces-all",
    unknown_char_policy="unihex",
    unknown_char_warning=False,
)


def in_words(frame: pl.DataFrame) -> pl.DataFrame:
    """Sparsities as they are written everywhere; other columns as they are."""
    if frame.schema.get("sparsity") != pl.Float64:
        return frame
    return frame.with_columns(
        pl.col("sparsity").map_elements(lambda s: wording.sparsity(s) if s else "0", pl.String)
    )


def csv(frame: pl.DataFrame) -> str:
    """As CSV; text that a spreadsheet would compute, such as `=1+1`, begins with an apostrophe.

    >>> csv(pl.DataFrame({"name": ["=1+1", "LT"]}))
    "name\\n'=1+1\\nLT\\n"
    """
    text = [name for name, kind in frame.schema.items() if kind == pl.String]
    harmless = [
        pl.when(pl.col(name).str.contains(r"^[=+\-@\t\r\n]"))
        .then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(pl.col(name))
        .alias(name)
        for name in text
    ]
    return frame.with_columns(harmless).write_csv()


def latex(frame: pl.DataFrame) -> str:
    """As a LaTeX tabular with booktabs rules, its text escaped."""
    kinds = "".join("r" if kind.is_numeric() else "l" for kind in frame.dtypes)
    return tabular(kinds, [frame.columns], frame.iter_rows())


def tabular(
    kinds: str,
    heads: Sequence[Iterable[object]],
    rows: Iterable[Iterable[object]],
    rules: Sequence[str] = (),
) -> str:
    """A LaTeX tabular.

    Args:
        kinds: a letter a column, `l`, `c` or `r`.
        heads: rows above the middle rule; a cell of `Span` takes several columns.
        rows: below it.
        rules: LaTeX after the first head, such as a `cmidrule`.
    """
    first, *others = [_row(head) for head in heads]
    lines = [NEEDS, rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", first, *rules, *others]
    lines += [r"\midrule", *map(_row, rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def table_3(own: Iterable[tuple[str, str, str, str]]) -> pl.DataFrame:
    """Table 3: marks by dataset and network, each study's beside the paper's.

    Args:
        own: study, network, dataset and marks.

    Returns:
        `dataset source` and a column per network, in the paper's order, then others; empty cells
        are null. The paper's own rows are those of the datasets and networks of the studies.
    """
    found = list(own)
    asked = {(network, dataset) for _, network, dataset, _ in found}
    paper = [
        (PAPER, network, dataset, str(said))
        for (network, dataset), said in PUBLISHED.items()
        if (network, dataset) in asked
    ]
    order = list(dict.fromkeys(network for network, _ in PUBLISHED))
    networks = sorted(
        {network for network, _ in asked},
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )
    datasets = list(dict.fromkeys([*(d for _, d in PUBLISHED), *(d for _, d in sorted(asked))]))
    rows = [
        {"dataset": dataset, "source": source}
        | {n: said for s, n, d, said in [*found, *paper] if (s, d) == (source, dataset)}
        for dataset in datasets
        for source in dict.fromkeys(s for s, _, d, _ in [*found, *paper] if d == dataset)
    ]
    columns = ["dataset", "source", *networks]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def table_3_latex(table: pl.DataFrame) -> str:
    """Table 3 in the paper's layout: the four marks side by side, a column for each network."""
    rows = [
        ["" if i and row[0] == table["dataset"][i - 1] else row[0], *row[1:]]
        for i, row in enumerate(table.iter_rows())
    ]
    kinds = "ll" + "c" * (table.width - 2)
    return tabular(kinds, [["Dataset", "", *table.columns[2:]]], rows)


def table_4(table: pl.DataFrame, dense: Mapping[float, float]) -> str:
    """The paper's Table 4: a block for each rate of pretraining, the best of each pruner in bold.

    Args:
        table: `pretrain_learning_rate learning_rate pruner accuracy`, accuracy in percent.
        dense: accuracy of pretraining by learning rate, in percent.
    """
    pruners = sorted(table["pruner"].unique(), key=settings.method)
    names = [f"{settings.method(pruner)} (%)" for pruner in pruners]
    kinds, above, rules, below, blocks, at = "", [], [], [], [], 1
    for (rate,), here in table.group_by("pretrain_learning_rate", maintain_order=True):
        own = f" (acc. {dense[float(rate)]:.1f} %)" if float(rate) in dense else ""
        kinds += "r" * (1 + len(pruners))
        above.append(Span(f"pretraining at {rate:g}{own}", 1 + len(pruners)))
        rules.append(rf"\cmidrule(lr){{{at}-{at + len(pruners)}}}")
        at += 1 + len(pruners)
        below += ["LT lr", *names]
        highest = dict(here.group_by("pruner").agg(pl.col("accuracy").max()).rows())
        cells = {(r, p): a for r, p, a in here.select("learning_rate", "pruner", "accuracy").rows()}
        blocks.append(
            [
                [f"{r:g}", *(_accuracy(cells.get((r, p)), highest.get(p)) for p in pruners)]
                for r in here["learning_rate"].unique().sort()
            ]
        )
    longest = max(map(len, blocks), default=0)
    empty = [""] * (1 + len(pruners))
    rows = [
        [cell for block in blocks for cell in (block[i] if i < len(block) else empty)]
        for i in range(longest)
    ]
    return tabular(kinds, [above, below], rows, rules)


def _accuracy(value: float | None, highest: float | None) -> str | None:
    if value is None:
        return None
    return Bold(f"{value:.1f}") if value == highest else f"{value:.1f}"


class Span(str):
    """A head over several columns.

    Args:
        text: of the head.
        columns: how many.
    """

    columns: int

    def __new__(cls, text: str, columns: int) -> "Span":
        """A string that knows its columns."""
        made = super().__new__(cls, text)
        made.columns = columns
        return made


class Bold(str):
    """A cell in bold."""


def _row(cells: Iterable[object]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(value: object) -> str:
    if isinstance(value, Span):
        return rf"\multicolumn{{{value.columns}}}{{c}}{{{escaped(value)}}}"
    if isinstance(value, Bold):
        return rf"\textbf{{{escaped(value)}}}"
    return escaped(value)


def escaped(value: object) -> str:
    """A value as LaTeX text that compiles with pdflatex; unknown characters by their code points.

    >>> escaped("50 % of a_b"), escaped(None), escaped("①")
    ('50 {\\\\%} of a{\\\\_}b', '--', '{\\\\textcircled{\\\\scriptsize 1}}')
    """
    if value is None:
        return "--"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # Control characters have no place in a table, nor halves of characters in any file.
    kept = "".join(c for c in text if c.isprintable() or c in "\n\r\t")
    return str(_ENCODER.unicode_to_latex(kept.encode("utf-8", "replace").decode("utf-8")))
