"""A page to try trained models: type or shuffle a prompt, compare answers, look inside. `make play` opens it."""

import marimo

app = marimo.App(width="medium", app_title="Breaking symmetry")


@app.cell
def imports():
    import random

    import marimo as mo
    import numpy as np
    import pandas as pd
    from matplotlib import figure

    import pipeline

    return figure, mo, np, pd, pipeline, random


@app.cell
def introduction(mo):
    mo.md(
        """
        # Does the model know the order?

        Every model here was trained on three-digit addition. The answer to `123+456=` is `9750`, 579 backwards. Shuffle
        the tokens before the last one: a model without positional encoding (NoPE) and causal mask cannot notice.
        """
    )
    return


@app.cell
def inputs(mo, pipeline):
    names = pipeline.trained_ablations()
    defaults = [name for name in ("nope-full", "nope-causal", "learned-causal") if name in names]
    prompt = mo.ui.text(value="123+456=", label="Prompt", debounce=True)
    shuffle = mo.ui.button(value=0, on_click=lambda count: count + 1, label="Shuffle")
    selected = mo.ui.multiselect(names, value=defaults or names[:3], label="Models")
    mo.hstack([prompt, shuffle, selected], justify="start", align="end")
    return prompt, selected, shuffle


@app.cell
def reorder(mo, prompt, random, shuffle):
    tokens, last = list(prompt.value[:-1]), prompt.value[-1:]
    if shuffle.value:
        random.shuffle(tokens)
        reordered = "".join(tokens) + last
    else:  # the first operand backwards
        first, plus, second = prompt.value[:-1].partition("+")
        reordered = first[::-1] + plus + second + last
    mo.md(f"Prompt `{prompt.value}`, in another order `{reordered}`")
    return (reordered,)


@app.cell
def load_models(mo, pipeline, prompt, reordered, selected):
    from pipeline.errors import UserError

    prompts = [prompt.value, reordered]
    models, errors = {}, []
    for name in selected.value:
        try:
            model = pipeline.load(name)
            model.encode_prompts(prompts)
            models[name] = model
        except UserError as error:
            errors.append(str(error))
    mo.callout("\n\n".join(errors), kind="warn") if errors else None
    return models, prompts


@app.cell
def answers(mo, models, np, pd, prompts):
    def row(model):
        before, after = model.predict(prompts)
        logits = model.logits(prompts).values
        return {
            prompts[0]: before.text,
            "p": f"{before.probability:.2g}",
            prompts[1]: after.text,
            "p ": f"{after.probability:.2g}",
            "answers over all orders": len(model.predict_all_orders(prompts[0])),
            "largest change of a logit": f"{np.abs(logits[1] - logits[0]).max():.2g}",
        }

    table = pd.DataFrame({name: row(model) for name, model in models.items()}).T.rename_axis("model").reset_index()
    mo.vstack(
        [
            mo.md("## Answers\n\n`p`: the probability that the model gives to its answer."),
            mo.ui.table(table, selection=None, show_column_summaries=False),
        ]
    )
    return (table,)


@app.cell
def select_model(mo, models):
    mo.stop(not models)
    loaded = list(models)
    inspected = mo.ui.dropdown(loaded, value="nope-causal" if "nope-causal" in loaded else loaded[0], label="Model")
    mo.vstack([mo.md("## Inside one model"), inspected])
    return (inspected,)


@app.cell
def attention(figure, inspected, mo, models, prompts):
    pattern = models[inspected.value].attention(prompts[:1])
    layers, heads = pattern.sizes["layer"], pattern.sizes["head"]
    attention_figure = figure.Figure(figsize=(2.2 * heads, 2.3 * layers), layout="constrained")
    for layer, row_of_axes in enumerate(attention_figure.subplots(layers, heads, squeeze=False)):
        for head, axes in enumerate(row_of_axes):
            axes.imshow(pattern.sel(layer=layer, head=head)[0], vmin=0, vmax=1, cmap="Blues")
            axes.set_xticks(range(len(prompts[0])), prompts[0])
            axes.set_yticks(range(len(prompts[0])), prompts[0])
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
    mo.vstack(
        [
            mo.md(
                "**Attention.** Each row is a position that reads, each column a position that it reads from. White: "
                "weight 0; dark: weight 1. Layers count from 0."
            ),
            mo.as_html(attention_figure),
        ]
    )
    return


@app.cell
def depth(figure, inspected, mo, models, np, prompts):
    states = models[inspected.value].residual_stream(prompts)
    distance = np.linalg.norm(states.isel(prompt=1) - states.isel(prompt=0), axis=-1)
    change = distance / np.linalg.norm(states.isel(prompt=0), axis=-1)
    depth_figure = figure.Figure(figsize=(6.5, 2.6), layout="constrained")
    panel = depth_figure.subplots()
    image = panel.imshow(change, vmin=0, vmax=max(1.0, float(change.max())), cmap="Oranges", aspect="auto")
    panel.set_xticks(range(len(prompts[0])), [f"{a}\n{b}" for a, b in zip(*prompts, strict=True)])
    panel.set_yticks(range(len(change)), ["embeddings", *(f"after layer {layer}" for layer in range(len(change) - 1))])
    depth_figure.colorbar(image, label="change / size")
    mo.vstack(
        [
            mo.md(
                "**Change of the states with the order**, at each position and depth. The answer is read from the "
                "bottom right: if nothing changes there, the answer cannot depend on the order."
            ),
            mo.as_html(depth_figure),
        ]
    )
    return (change,)


if __name__ == "__main__":
    app.run()
