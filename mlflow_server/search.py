"""Finds runs in a tracking store, however many there are."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000


def found(
    client: "MlflowClient",
    experiment_ids: Sequence[str],
    condition: str = "",
    *,
    deleted: bool = False,
) -> Iterator["Run"]:
    """Runs that meet a condition of MLflow's filter language, page by page.

    Args:
        client: of the store.
        experiment_ids: where to look; none give none.
        condition: such as `attributes.status = 'RUNNING'`; empty: all of them.
        deleted: deleted runs as well.
    """
    from mlflow.entities import ViewType

    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    token: str | None = None
    while experiment_ids:
        page = client.search_runs(
            list(experiment_ids), condition, view, max_results=_PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
