"""Commands `track` and `ui`: make the runs in MLflow agree with the files, and show them."""

from pipeline.params import Params
from pipeline.stages import EVALUATION, MODELS, TESTED
from pipeline.tracking.ablations import mark_killed_runs, sync_runs
from pipeline.tracking.failures import raise_unreachable
from pipeline.tracking.overview import update_overview
from pipeline.tracking.store import STORE_ERRORS, open_store
from pipeline.tracking.ui import serve_pages
from pipeline.training.artifact import CONFIG_FILE


def run(params: Params) -> None:
    """Bring the runs of every trained ablation in MLflow up to date, and print the result for each ablation.

    Runs whose process was killed are marked as killed, runs whose results are in no file any more as superseded.

    Raises:
        RunError: MLflow does not answer.
    """
    store = open_store(params.tracking)
    with raise_unreachable(store.uri, STORE_ERRORS):
        mark_killed_runs(store)
        for ablation in params.all_ablations():
            folder, result = MODELS / ablation.name, "not trained yet"
            if (folder / CONFIG_FILE).exists():
                result = sync_runs(store, ablation, folder, EVALUATION / ablation.name / TESTED)
            print(f"{ablation.name}: {result}")
        update_overview(store, params, EVALUATION, TESTED)


def show(params: Params, host: str, port: int | None) -> None:
    """Serve MLflow's pages until Ctrl-C (see `serve_pages`), and bring their first table up to date before.

    Raises:
        RunError: MLflow does not answer.
        UserError: the port is taken.
    """
    store = open_store(params.tracking)
    with raise_unreachable(store.uri, STORE_ERRORS):
        update_overview(store, params, EVALUATION, TESTED)
    serve_pages(store, host, port)
