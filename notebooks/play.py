"""Play with trained models: type or shuffle a prompt, see who notices, look inside. `make play` opens it."""

import marimo

app = marimo.App(width="medium", app_title="Breaking symmetry")


@app.cell
def imports():
    import random

    import marimo as mo
    import numpy as np
    import pandas as pd
    from matplotlib import figure as drawing

    import pipeline

    return drawing, mo, np, pd, pipeline, random


@app.cell
def question(mo):
    mo.md(
        """
        # Does it know the order?

        Every model here was trained on three-digit addition: to `123+456=` the answer is `9750`, 579 backwards. Shuffle
        the tokens before the last one: without positional encoding (NoPE) and without a causal mask it cannot notice.
        """
    )
    return


@app.cell
def choices(mo, pipeline):
    known = pipeline.trained()
    story = [name for name in ("nope-full", "nope-causal", "learned-causal") if name in known]
    prompt = mo.ui.text(value="123+456=", label="Prompt", debounce=True)
    shuffle = mo.ui.button(value=0, on_click=lambda times: times + 1, label="Shuffle")
    chosen = mo.ui.multiselect(known, value=story or known[:3], label="Models")
    mo.hstack([prompt, shuffle, chosen], justify="start", align="end")
    return chosen, prompt, shuffle


@app.cell
def shuffled(mo, prompt, random, shuffle):
    earlier, last = list(prompt.value[:-1]), prompt.value[-1:]
    if shuffle.value:
        random.shuffle(earlier)
        order = "".join(earlier) + last
    else:  # the first operand, backwards
        first, plus, second = prompt.value[:-1].partition("+")
        order = first[::-1] + plus + second + last
    mo.md(f"Prompt `{prompt.value}`, in another order `{order}`")
    return (order,)


@app.cell
def models(chosen, mo, order, pipeline, prompt):
    from pipeline.errors import UserError

    asked = [prompt.value, order]
    loaded, refused = {}, {}
    for name in chosen.value:
        try:
            model = pipeline.load(name)
            model.tokens(asked)
            loaded[name] = model
        except UserError as error:
            refused[name] = str(error)
    mo.callout("\n\n".join(refused.values()), kind="warn") if refused else None
    return asked, loaded


@app.cell
def answers(asked, loaded, mo, np, pd):
    def row(model):
        before, after = model.predict(asked)
        logits = model.logits(asked).values
        return {
            asked[0]: before.text,
            "sure": f"{before.probability:.2g}",
            asked[1]: after.text,
            "sure ": f"{after.probability:.2g}",
            "answers over all orders": len(model.over_orders(asked[0])),
            "largest change of a logit": f"{np.abs(logits[1] - logits[0]).max():.2g}",
        }

    table = pd.DataFrame({name: row(model) for name, model in loaded.items()}).T.rename_axis("model").reset_index()
    mo.vstack([mo.md("## Answers"), mo.ui.table(table, selection=None, show_column_summaries=False)])
    return (table,)


@app.cell
def one(loaded, mo):
    mo.stop(not loaded)
    names = list(loaded)
    which = mo.ui.dropdown(names, value="nope-causal" if "nope-causal" in names else names[0], label="Look into")
    mo.vstack([mo.md("## Inside"), which])
    return (which,)


@app.cell
def attention(drawing, asked, loaded, mo, which):
    inside = loaded[which.value]
    pattern = inside.attention(asked[:1])
    layers, heads = pattern.sizes["layer"], pattern.sizes["head"]
    figure = drawing.Figure(figsize=(2.2 * heads, 2.3 * layers), layout="constrained")
    for place, axes in enumerate(figure.subplots(layers, heads, squeeze=False).flat):
        layer, head = divmod(place, heads)
        axes.imshow(pattern.sel(layer=layer, head=head)[0], vmin=0, vmax=1, cmap="Blues")
        axes.set_xticks(range(len(asked[0])), asked[0])
        axes.set_yticks(range(len(asked[0])), asked[0])
        axes.set_title(f"layer {layer}, head {head}", fontsize=9)
    mo.vstack(
        [
            mo.md("**Attention** (a row reads from the columns; layers count from 0; white: nothing, dark: all of it)"),
            mo.as_html(figure),
        ]
    )
    return (inside,)


@app.cell
def depth(drawing, asked, inside, mo, np):
    states = inside.residual_stream(asked)
    apart = np.linalg.norm(states.isel(prompt=1) - states.isel(prompt=0), axis=-1)
    change = apart / np.linalg.norm(states.isel(prompt=0), axis=-1)
    drawn = drawing.Figure(figsize=(6.5, 2.6), layout="constrained")
    panel = drawn.subplots()
    image = panel.imshow(change, vmin=0, vmax=max(1.0, float(change.max())), cmap="Oranges", aspect="auto")
    panel.set_xticks(range(len(asked[0])), [f"{a}\n{b}" for a, b in zip(*asked, strict=True)])
    panel.set_yticks(range(len(change)), ["embeddings", *(f"after layer {layer}" for layer in range(len(change) - 1))])
    drawn.colorbar(image, label="change / size")
    mo.vstack(
        [
            mo.md(
                "**Where order sits**: how much the state in each column changes with the order. At the bottom right, "
                "what the answer is read from: without a change there, it cannot depend on the order."
            ),
            mo.as_html(drawn),
        ]
    )
    return (change,)


if __name__ == "__main__":
    app.run()
