"""What `analyze` would have measured of made-up runs: plausible numbers, a row per member, moment and key."""

from itertools import product

import numpy as np
import pandas as pd

MOMENTS = ((0, 0), (20, 0), (900, 1))
"""(step, trained)."""
LENGTH = 4


def measured(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Measurement -> its table, for the members of `runs`."""
    rows: dict[str, list[dict[str, object]]] = {}

    def add(name: str, **values: object) -> None:
        rows.setdefault(name, []).append({**member, **values})

    for run in runs.to_dict("records"):
        blind = run["positional"] == "none" and (run["attention"] == "full" or run["layers"] == 1)
        causal = run["attention"] == "causal"
        noise = np.random.default_rng([run["seed"], len(run["ablation"])])
        for step, trained in MOMENTS:
            member = {"ablation": run["ablation"], "seed": run["seed"], "step": step, "trained": trained}
            snapshot = step and not trained
            for layer in range(run["layers"]):
                add("gradient_norm", layer=layer, gradient_norm=0.1 + noise.random())
            for depth in range(run["layers"] + 1):
                add("effective_rank", depth=depth, effective_rank=1 + noise.random())
                for position in range(LENGTH):
                    feels = not blind and (run["positional"] != "none" or depth > 1)
                    change = 0.3 * depth * feels * (1 + noise.random())
                    others = change or 0.1 * (causal and depth > 0 and position < LENGTH - 1)
                    add("depth", depth=depth, position=position, change_of_token=others, change_in_place=others)
            if snapshot:
                continue
            add(
                "symmetry",
                order_blind_predicted=int(blind),
                max_logit_change=0.0 if blind else 0.5 + noise.random(),
                total_variation=0.0 if blind else 0.1,
                changed_argmax_share=0.0 if blind else 0.2,
            )
            add("cost", flops_per_step=1e8 * run["layers"])
            for depth, (which, target, control) in product(
                range(run["layers"] + 1), product(("random", "task"), ("position", "distance"), (0, 1))
            ):
                readable = run["positional"] != "none" or (causal and depth > 0)
                r2 = 0.8 * (not control and readable) + 0.02 * noise.random()
                add(
                    "position_probe", rows=which, target=target, depth=depth, control=control, r2=r2, error=3 * (1 - r2)
                )
            for depth, which in product(range(run["layers"] + 1), ("random", "task")):
                score = 0.5 + 0.1 * (causal and depth > 0) + 0.01 * (noise.random() - 0.5)
                add("adjacency", rows=which, depth=depth, adjacency=score)
            for depth in range(run["layers"] + 1):
                add("correlation_ratio", depth=depth, ratio=3 / (1 + depth), reference=1 / (LENGTH - 1))
                for position, token in product(range(LENGTH), repeat=2):
                    accuracy = 0.9 if position == token else 0.1
                    add("slices", depth=depth, position=position, token_position=token, accuracy=accuracy, chance=0.1)
    return {name: pd.DataFrame(table) for name, table in sorted(rows.items())}
