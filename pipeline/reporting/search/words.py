"""What is said of a study, from its numbers."""

import pandas as pd

from pipeline.params import Model, Params
from pipeline.reporting.cells import OPTIMIZERS, layers_in_words
from pipeline.reporting.search import answer
from pipeline.reporting.search.figures import NAMES
from pipeline.reporting.wording import count, listed, percent, plural


def findings(trials: pd.DataFrame, model: Model, minimized: str) -> list[str]:
    """The answer, a sentence each; for each positional encoding tried (none first) its own."""
    known = answer.evidence(trials)
    if known.empty:
        return ["No trial is complete: there is no answer yet."]
    texts = []
    for positional in sorted(set(known["positional"]), key=lambda name: (name != "none", name)):
        texts += _enough(known[known["positional"] == positional], _encoding(positional), minimized)
    blind = answer.order_blind(trials, model)
    if len(blind) and not blind["converged"].sum():
        which = "One layer" if (blind["layers"] == 1).all() else "What has one layer or full attention"
        texts.append(
            f"{which} without positional encoding **never converged** in {plural(len(blind), 'configuration')}, "
            f"in {count(0, int(blind['members'].sum()))} members, and cannot: it is order-blind by construction."
        )
    return texts


def _enough(tried: pd.DataFrame, which: str, minimized: str) -> list[str]:
    """What of `tried` converged in every member: the shallowest, the sparsest, and the least of another objective."""
    full, depth = answer.solved(tried), answer.shallowest(tried)
    if depth is None:
        best = answer.ranked(tried, minimized).iloc[0]
        return [
            f"**No configuration {which} converged in every member**, of {len(tried)} tried. The best was trial "
            f"{best['trial']} ({pattern(best)}), with {members(best)} converged and a mean validation exact match of "
            f"{percent(best['validation_exact_match'])}."
        ]
    there, fewest = full[full["layers"] == depth], answer.ranked(full).iloc[0]
    shallow = answer.ranked(there).iloc[0]
    at_depth = plural(int((tried["layers"] == depth).sum()), "configuration")
    equals = int((full["residuals_kept"] == fewest["residuals_kept"]).sum())
    only = f"{equals} keep so few," if equals > 1 else "It is the only one to keep so few,"
    texts = [
        f"The shallowest transformer {which} that converged in every member has **{plural(depth, 'layer')}**: "
        f"{len(there)} of {at_depth} tried at this depth did, such as trial {shallow['trial']} with "
        f"{members(shallow)}.",
        f"The sparsest {which} that did keeps **{kept(fewest)} residual connections**: trial {fewest['trial']} "
        f"({pattern(fewest)}), with {members(fewest)} converged. {only} of {len(full)} of which every "
        f"member converged, out of {len(tried)} tried.",
    ]
    if minimized != "residuals_kept":
        least = answer.ranked(full, minimized).iloc[0]
        texts.append(
            f"The least {NAMES[minimized]} {which} with which every member converged: **{least[minimized]:,.4g}**, "
            f"trial {least['trial']} ({pattern(least)}), {members(least)}."
        )
    return texts


def alarms(trials: pd.DataFrame, model: Model) -> list[str]:
    """A trial that cannot know the order of its input, and yet converged: something leaks."""
    blind = answer.order_blind(trials, model)
    return [
        f"Trial {trial['trial']} ({pattern(trial)}) is order-blind by construction, but {members(trial)} converged: "
        f"trust no number of this study until the leak is found."
        for _, trial in blind[blind["converged"] > 0].iterrows()
    ]


def what_was_tried(params: Params, trials: pd.DataFrame, study: str, space_size: int | None) -> list[str]:
    """How much of the space was tried, and what cannot be concluded from it."""
    known, search = answer.evidence(trials), params.search
    state = trials["state"].value_counts()
    repeats = int(state.get("complete", 0)) - len(known)
    configurations = plural(len(known), "configuration")
    texts = [
        f"Study `{study}`: {configurations}{f' of {space_size:,}' if space_size else ''} trained, each with "
        f"{plural(len(search.seeds), 'member')} for at most {search.steps:,} steps. A member **converged** when its "
        f"validation exact match reached {percent(params.training.converged_at)}; an interval is that of the share of "
        f"members that do (Clopper-Pearson).",
        f"{plural(repeats, 'trial')} repeated a configuration and counted no second time; "
        f"{plural(int(trials['retries'].notna().sum()), 'trial')} ran again what a lost worker had begun; "
        f"{int(state.get('failed', 0))} failed; {int(known['given_up'].sum())} were given up as hopeless (after "
        f"{percent(search.give_up_at)} of the steps no member had ever reached a validation exact match of "
        f"{percent(search.give_up_below)}); {plural(int(known['diverged'].sum()), 'member')} diverged.",
    ]
    complete, wanted = int(state.get("complete", 0)), min(search.trials, space_size or search.trials)
    if complete < wanted:
        texts.append(f"The study is not at its end: {complete} of {plural(wanted, 'trial')} are complete.")
    few = (
        f"With {plural(len(search.seeds), 'member')} each, what converged may not do so with other seeds, nor what did "
        f"not fail again; the best was picked among many, which flatters it."
    )
    if space_size is not None and len(known) >= space_size:
        return [*texts, f"The whole space was tried. {few}"]
    return [
        *texts,
        f"**The space was sampled, not tried in full**: that no trial converged without some connection does not prove "
        f"that none can. {few}",
    ]


def pattern(trial: pd.Series) -> str:
    """What a trial trained: `3 layers, no residual at layers 0, 1 (attention) and layer 2 (MLP)`."""
    free = {"attention": trial["residual_free_attention"], "MLP": trial["residual_free_mlp"]}
    parts = [f"{layers_in_words(layers)} ({name})" for name, layers in free.items() if answer.layers_of(layers)]
    missing = f"no residual at {listed(parts)}" if parts else "every residual connection"
    return f"{plural(int(trial['layers']), 'layer')}, {missing}"


def settings(trial: pd.Series, varied: list[str]) -> str:
    """Of a trial's other settings, those `varied` in the study: `, width 32, AdamW`; empty without any."""
    words = {
        "positional": "no PE" if trial["positional"] == "none" else f"{trial['positional']} PE",
        "attention": f"{trial['attention']} attention",
        "heads": f"{trial['heads']} heads",
        "width": f"width {trial['width']}",
        "optimizer": OPTIMIZERS.get(str(trial["optimizer"]), ""),
        "learning_rate": f"learning rate {trial['learning_rate']:g}",
    }
    return "".join(f", {text}" for name, text in words.items() if name in varied)


def kept(trial: pd.Series) -> str:
    """`3 of 6`."""
    return f"{trial['residuals_kept']} of {2 * trial['layers']}"


def members(trial: pd.Series) -> str:
    """`2 of 2 (95% interval 16% to 100%) members`."""
    return f"{count(int(trial['converged']), int(trial['members']))} members"


def _encoding(positional: str) -> str:
    return "without positional encoding" if positional == "none" else f"with {positional} positional encoding"
