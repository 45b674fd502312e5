"""Our ablations beside the runs found in the authors' public notebooks."""

from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate, IntervalKind, Unit
from pipeline.reporting.experiment import published as runs
from pipeline.reporting.experiment.comparisons import one_layer_each
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import Finding, by_ablation, section
from pipeline.reporting.wording import NOTHING, listed, percent, sure


@section("details", 30, "Beside the published runs", scores=[EXACT_MATCH])
def published(evidence: Evidence) -> Finding | None:
    """A row for each ablation that has published runs, and which layer's residual connections cost most, there and
    here."""
    ablations = [ablation for ablation in evidence.ablations if _theirs(evidence, ablation)]
    if not ablations:
        return None
    others = {ablation.name: runs.what_differs(ablation) for ablation in ablations}
    always = [what for what in next(iter(others.values())) if all(what in found for found in others.values())]

    def own(ablation: Ablation) -> str:
        return listed([what for what in others[ablation.name] if what not in always]) or NOTHING

    columns = {
        "Layers without": lambda ablation: runs.places(ablation) or NOTHING,
        "Ours, at the last step": evidence.exact_match,
        "Published, maximum of each run": lambda ablation: sure(_theirs(evidence, ablation)),
        "What else differs": own,
    }
    table = by_ablation(ablations, columns, "Test exact match over runs: median (min to max)")
    words = {"always": listed(always), "by_role": any(ablation.model.layers != runs.LAYERS for ablation in ablations)}
    return Finding([*_agreement(evidence), *_by_layer(evidence)], [table], words=words)


def _theirs(evidence: Evidence, ablation: Ablation) -> Estimate | None:
    """The median of the published runs."""
    where = {"ablation": ablation.name}
    found = evidence.estimate(
        "ablations.csv", "published_median", "share", where, n="published_runs",
        limits=("published_min", "published_max"), interval="minimum to maximum",
    )  # fmt: skip
    return found and found.model_copy(update={"budget": runs.THEIRS["training"]["steps"]})


def _agreement(evidence: Evidence) -> list[Claim]:
    """How well the ablations go together, where ours are as deep as theirs."""

    def of(positional: str, column: str, unit: Unit) -> Estimate | None:
        kind: IntervalKind = "Bonett-Wright 95%" if unit == "ratio" else ""
        return evidence.estimate(
            "published.csv", column, unit, {"positional": positional}, n="ablations", interval=kind
        )

    if not (overall := of("all", "rank_correlation", "ratio")):
        return []
    each = [name for name in evidence.tables["published.csv"]["positional"] if name != "all"]
    estimates: dict[str, Estimate | None] = {"overall": overall}
    estimates |= {kind: of("all", kind, "count") for kind in ("both", "neither", "only_ours", "only_theirs")}
    estimates |= {f"with_{name}": of(name, "rank_correlation", "ratio") for name in each}
    return [Claim("agreement", estimates, {"each": each, "learned": percent(runs.LEARNED)}, place="lead")]


def _by_layer(evidence: Evidence) -> list[Claim]:
    """Whose residual connections cost least and most, in their runs and in ours."""
    pairs = {runs.places(ablation): (ablation, whole) for ablation, whole in one_layer_each(evidence.ablations)}
    theirs = {place: found for place, (ablation, _) in pairs.items() if (found := _theirs(evidence, ablation))}
    ours = {
        place: found
        for place, (ablation, whole) in pairs.items()
        if (found := evidence.compared("restricted_steps", ablation, whole))
    }
    if len(theirs) < 2 or set(theirs) != set(ours):
        return []
    by_theirs = sorted(theirs, key=lambda place: -theirs[place].value)
    by_ours = sorted(ours, key=lambda place: ours[place].value)
    estimates: dict[str, Estimate | None] = {f"theirs_{place}": found for place, found in theirs.items()}
    estimates |= {f"ours_{place}": found for place, found in ours.items()}
    return [Claim("by_layer", estimates, {"theirs": by_theirs, "ours": by_ours})]
