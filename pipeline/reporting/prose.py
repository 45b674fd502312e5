"""Prose by people, numbers by reference: Jinja templates whose functions look up estimates.

A template such as `answers.md.j2` says `{{ steps("nope-causal") }}`, and gets `838 (808 to 867)`. A paragraph that
names an ablation that the experiment does not have is dropped, because somebody may have removed the ablation.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partialmethod
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError

from pipeline.errors import UserError
from pipeline.measurement.common.interventions import LOGIT_TOLERANCE
from pipeline.params.config import suggest_names
from pipeline.reporting.estimates import QUANTITIES, Estimate, Estimates
from pipeline.reporting.results import PERCENT

FILTERS: dict[str, Callable[..., str]] = {
    "number": lambda estimate: estimate.number(),
    "interval": lambda estimate: estimate.interval(),
    "p_value": lambda estimate: f"p = {text}".replace("= <", "<") if (text := estimate.p_text()) else "no p",
    "p_number": lambda estimate: estimate.p_text(),
    "decided": lambda estimate: "yes" if estimate.is_decided else "no",
}
"""Filters of templates: the value alone, the interval alone, the corrected p, and whether that is a decision."""


class MissingEstimate(Exception):
    """Error for a reference to an ablation that the experiment does not have, or to what was not measured on it."""


@dataclass(frozen=True)
class References:
    """The functions with which a template refers to the numbers of one experiment."""

    estimates: Estimates

    def estimate(self, quantity: str, ablation: str, versus: str = "", **columns: Any) -> Estimate:
        """Return the estimate of a quantity of an ablation; further columns of `estimates.csv` make it unique.

        A MissingEstimate is raised if the experiment has no such ablation, or no such estimate of it; a UserError if
        there is no such quantity, or if several estimates match.
        """
        table = self.estimates.table
        for name in filter(None, (ablation, versus)):
            if name not in set(table["ablation"]) | set(table["versus"]):
                raise MissingEstimate(name)
        known = QUANTITIES | set(table["quantity"])
        was_measured = any("." in name and not name.startswith("symmetry.") for name in known)
        if quantity not in known and ("." not in quantity or was_measured):
            raise UserError(f"no quantity {quantity!r}{suggest_names(quantity, sorted(known))}")
        if (match := self.estimates.find(quantity, ablation=ablation, versus=versus, **columns)) is None:
            raise MissingEstimate(f"{ablation}: {quantity}")
        return match

    steps = partialmethod(estimate, "restricted_steps")
    """Mean steps to converge of an ablation, where a run that did not converge counts as its budget."""
    converged = partialmethod(estimate, "converged")
    """How many runs converged: `8 of 8 (63% to 100%)`; with the filter `number` without the interval."""
    exact_match = partialmethod(estimate, "test_exact_match")
    """Median test exact match, with its range."""
    ceiling = partialmethod(estimate, "order_blind_ceiling")
    """Best exact match of any order-blind predictor on the task of an order-blind ablation."""
    ratio = partialmethod(estimate, "steps_ratio")
    """How many times as many steps the first of two ablations takes; they have different positional encodings."""
    order_value = partialmethod(estimate, "order_value")
    """How many bits per token an ablation saves against the best one that cannot see order."""

    def measured(self, quantity: str, ablation: str, moment: str = "trained", **columns: Any) -> Estimate:
        """Return the mean of a measured number, such as `measured("interchange.recovery", "nope-causal", depth=1)`."""
        return self.estimate(quantity, ablation, moment=moment, **columns)

    def difference(self, first: str, second: str, quantity: str = "restricted_steps") -> Estimate:
        """Return the mean difference of two ablations, first minus second, in whichever direction it was computed."""
        if len(self.estimates.select(quantity, ablation=second, versus=first)):
            return self.estimate(quantity, second, first).negated()
        return self.estimate(quantity, first, second)

    def decided_at(self, first: str, second: str) -> str:
        """Return the thresholds, in percent, at which a difference in steps is decided: `50, 90, 99`, or `none`."""
        decided = [name for name in PERCENT if self.difference(first, second, name).is_decided]
        return ", ".join(map(PERCENT.__getitem__, decided)) or "none"

    def converged_in_all(self, *ablations: str) -> str:
        """Return how many runs of several ablations together converged: `17 of 24`."""
        converged = [self.converged(ablation) for ablation in ablations]
        return f"{sum(share.count() for share in converged)} of {sum(share.row['n'] for share in converged)}"

    def blind_to_order(self, *ablations: str) -> str:
        """Return for how many of several ablations order has no effect: `7 of 7`.

        Another order of earlier tokens changes no logit of a trained model, and no run beats the order-blind ceiling.
        """
        rows = self.estimates.table[self.estimates.table["moment"].isin(["", "trained"])]
        rows = rows[rows["quantity"].isin(["symmetry.max_logit_change", "runs_above_ceiling"])]
        largest = rows.groupby("ablation")["value"].max()
        return f"{sum(largest.get(name, math.inf) <= LOGIT_TOLERANCE for name in ablations)} of {len(ablations)}"

    def functions(self) -> dict[str, Callable[..., Any]]:
        """Return the functions for templates, by name."""
        names = [name for name in dir(self) if not name.startswith("_") and name not in ("estimates", "functions")]
        return {name: getattr(self, name) for name in names}


def render_paragraphs(template: str, functions: Mapping[str, Any], *, name: str) -> tuple[str, list[str]]:
    """Render a Markdown template paragraph by paragraph, and drop paragraphs that refer to missing estimates.

    A paragraph is what stands between two blank lines; a table or a list is one paragraph. `functions` are what the
    template may use, and `name` is its path, for error messages. Returns the text, and the missing ablations or
    estimates. A UserError is raised for a syntax error, and for an unknown function, filter or quantity.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals, environment.filters = dict(functions), environment.filters | FILTERS
    paragraphs, missing = [], []
    for paragraph in re.split(r"\n{2,}", template.strip("\n")):
        try:
            paragraphs.append(environment.from_string(paragraph).render())
        except MissingEstimate as error:
            missing.append(str(error))
        except (TemplateError, UserError) as error:
            beginning = paragraph.partition("\n")[0][:60]
            raise UserError(f"{name}: {error} (in the paragraph that begins {beginning!r})") from None
    return "\n\n".join(paragraphs) + "\n", list(dict.fromkeys(missing))
