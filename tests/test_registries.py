"""A registry is closed: it has an entry for every name that `params.yaml` may use.

mypy refuses an entry under another name, because the dictionaries are typed by the Literal; a missing one it cannot
see.
"""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from pipeline.params.model import PositionalName, SubstituteName
from pipeline.params.training import OptimizerName
from pipeline.training.optimizers import OPTIMIZER_BUILDERS
from pipeline.transformer.positional import POSITIONAL_ENCODINGS
from pipeline.transformer.substitutes import SUBSTITUTES


@pytest.mark.parametrize(
    ("names", "registry"),
    [
        (PositionalName, POSITIONAL_ENCODINGS),
        (SubstituteName, SUBSTITUTES),
        (OptimizerName, OPTIMIZER_BUILDERS),
    ],
    ids=["positional", "residual_substitute", "optimizer"],
)
def test_every_name_has_an_entry_in_the_same_order(names: Any, registry: Mapping[str, Any]) -> None:
    assert get_args(names) == tuple(registry)
