"""Linear probes: what a linear map can read from states (scikit-learn). Fitted on the first half of the rows, judged on
the second."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def _probe() -> Pipeline:
    # standardised, so that the same ridge suits the small states of initialisation and the large ones of the end
    return make_pipeline(StandardScaler(), Ridge(alpha=1.0))


def regression(
    states: Float[np.ndarray, "rows samples width"], targets: Float[np.ndarray, "rows samples"]
) -> dict[str, float]:
    """How well a number is read: `error` (mean absolute, in its unit) and `r2`, on the held-out rows."""
    half = len(states) // 2
    fitted = _probe().fit(states[:half].reshape(-1, states.shape[-1]), targets[:half].ravel())
    said = fitted.predict(states[half:].reshape(-1, states.shape[-1]))
    held_out = targets[half:].ravel()
    return {"error": float(mean_absolute_error(held_out, said)), "r2": float(r2_score(held_out, said))}


def tokens_read(
    states: Float[np.ndarray, "rows width"], tokens: Int[np.ndarray, "rows places"], vocabulary: int
) -> Float[np.ndarray, " places"]:
    """How often the token at each place is read right: least squares on one-hot targets, one for all places."""
    half = len(states) // 2
    targets = np.eye(vocabulary)[tokens[:half]].reshape(half, -1)
    said = _probe().fit(states[:half], targets).predict(states[half:])
    best = said.reshape(len(said), -1, vocabulary).argmax(-1)
    return (best == tokens[half:]).mean(0)
