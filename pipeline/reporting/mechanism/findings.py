"""All sections about the mechanism: those that have a page of their own, then any other measurement, generically."""

from collections.abc import Callable, Mapping

from pipeline.measurement.registry import Measurement
from pipeline.reporting.mechanism import adjacency, cost, depth, generic, position, slices, symmetry, trainability
from pipeline.reporting.mechanism.finding import Finding, Measured

SECTIONS: dict[Callable[[Measured], Finding], tuple[str, ...]] = {
    symmetry.section: ("symmetry",),
    depth.section: ("depth",),
    position.section: ("position_probe",),
    adjacency.section: ("adjacency",),
    slices.section: ("correlation_ratio", "slices"),
    trainability.section: ("effective_rank", "gradient_norm"),
    cost.section: ("cost",),
}
"""Each section and the measurements it tells of."""


def findings(measured: Measured, measurements: Mapping[str, Measurement]) -> list[Finding]:
    """A finding per section, then one per measurement that no section tells of."""
    told = {name for names in SECTIONS.values() for name in names}
    written = [section(measured) for section in SECTIONS]
    return written + [generic.section(measured, one) for name, one in measurements.items() if name not in told]
