"use strict";
// The transformer of pipeline/transformer/model.py, for one example at a time. Weights have PyTorch's names.
// A state is an array of `width` numbers; `states` has one per position.

class Network {
  /** `data`: a network as pipeline/page/build.py writes it: model settings, parameter shapes, weights of each moment. */
  constructor(data) {
    Object.assign(this, data);
    this.decoded = new Map();
  }

  /** Weights at a moment of training, by name: {values, columns}; decoded when first used. */
  weights(moment) {
    if (!this.decoded.has(moment)) {
      const numbers = decodeNumbers(this.moments[moment].numbers, this.moments[moment].bytes);
      const byName = {};
      let start = 0;
      for (const [name, shape] of this.parameters) {
        const size = shape.reduce((product, length) => product * length, 1);
        byName[name] = { values: numbers.subarray(start, start + size), columns: shape.at(-1) };
        start += size;
      }
      this.decoded.set(moment, byName);
    }
    return this.decoded.get(moment);
  }

  /** Settings of the network as it was trained: a mask and two residual connections per layer, true where present. */
  trainedSettings() {
    const { layers, attention, residual_free: free } = this.model;
    const byLayer = (isPresent) => Array.from({ length: layers }, (_, layer) => isPresent(layer));
    const hasResidual = (sublayer) => byLayer((layer) => !free[sublayer].includes(layer));
    return {
      moment: this.moments.length - 1,
      masks: byLayer((layer) => (Array.isArray(attention) ? attention[layer] : attention) === "causal"),
      residuals: { attention: hasResidual("attention"), mlp: hasResidual("mlp") },
      patch: null,
    };
  }

  /**
   * Read tokens. `settings.patch` = {depth, position, state} replaces one state of the residual stream.
   * Returns the logits after the last token, stream[depth][position] (0: embeddings), attention[layer][head][query][key].
   */
  run(tokens, { moment, masks, residuals, patch }) {
    const weights = this.weights(moment);
    let states = tokens.map((token, position) => this.embed(weights, token, position));
    const stream = [], attention = [];
    for (let layer = 0; ; layer++) {
      if (patch?.depth === layer) states = states.with(patch.position, patch.state);
      stream.push(states);
      if (layer === this.model.layers) break;
      const block = `blocks.${layer}`;
      const normed = states.map((x) => layerNorm(x, weights, `${block}.attention.norm`));
      const attended = this.attend(weights, `${block}.attention.transformation`, normed, masks[layer]);
      attention.push(attended.pattern);
      states = addResidual(attended.output, states, residuals.attention[layer]);
      const updates = states.map((x) => mlp(layerNorm(x, weights, `${block}.mlp.norm`), weights, block));
      states = addResidual(updates, states, residuals.mlp[layer]);
    }
    const logits = linear(weights["embedding.weight"], layerNorm(states.at(-1), weights, "norm"));
    return { logits, stream, attention };
  }

  /** Answer greedily: {tokens, probabilities} of up to `count` tokens, or up to the token `end`. */
  answer(prompt, settings, count, end) {
    const tokens = [...prompt], probabilities = [];
    while (probabilities.length < count) {
      const distribution = softmax(this.run(tokens, settings).logits);
      const best = distribution.indexOf(Math.max(...distribution));
      tokens.push(best);
      probabilities.push(distribution[best]);
      if (best === end) break;
    }
    return { tokens: tokens.slice(prompt.length), probabilities };
  }

  embed(weights, token, position) {
    const { positional, width } = this.model;
    const embedding = row(weights["embedding.weight"], token);
    if (positional === "learned") return add(embedding, row(weights["positional.table.weight"], position));
    if (positional !== "sinusoidal") return Float64Array.from(embedding);
    return Float64Array.from(embedding, (x, unit) => {
      const angle = positionAngle(position, unit >> 1, width);
      return x + EMBEDDING_SCALE * (unit % 2 ? Math.cos(angle) : Math.sin(angle));
    });
  }

  /** Multi-head self-attention; with a mask, a position attends to itself and earlier ones. */
  attend(weights, name, states, isMasked) {
    const { heads, width } = this.model, units = width / heads;
    const projected = states.map((x) => linear(weights[`${name}.query_key_value.weight`], x));
    const mixed = states.map(() => new Float64Array(width));
    const pattern = [];
    for (let head = 0; head < heads; head++) {
      const part = (index) => projected.map((x) => x.subarray(index * width + head * units).subarray(0, units));
      const [queries, keys] = [part(0), part(1)].map((vectors) => vectors.map((x, i) => this.rotate(x, i)));
      const values = part(2);
      pattern.push(queries.map((query, i) => {
        const scores = keys.map((key, j) => isMasked && j > i ? -Infinity : this.score(query, key, head, i - j));
        return softmax(scores);
      }));
      pattern[head].forEach((row, i) => row.forEach((weight, j) => {
        for (let unit = 0; unit < units; unit++) mixed[i][head * units + unit] += weight * values[j][unit];
      }));
    }
    return { pattern, output: mixed.map((x) => linear(weights[`${name}.output.weight`], x)) };
  }

  score(query, key, head, distance) {
    const penalty = this.model.positional === "alibi" ? 2 ** (-8 * (head + 1) / this.model.heads) : 0;
    return dot(query, key) / Math.sqrt(query.length) - penalty * Math.abs(distance);
  }

  /** Rotary encoding: turn each pair of units of a query or key by an angle that depends on the position. */
  rotate(x, position) {
    if (this.model.positional !== "rotary") return x;
    return x.map((value, unit) => {
      const angle = positionAngle(position, unit >> 1, x.length);
      return value * Math.cos(angle) + (unit % 2 ? x[unit - 1] : -x[unit + 1]) * Math.sin(angle);
    });
  }
}

const EMBEDDING_SCALE = 0.02;

/** Numbers in base64, of which the `bytes` most significant bytes of float32 are stored (2: bfloat16). */
function decodeNumbers(base64, bytes) {
  const text = atob(base64), count = text.length / bytes;
  const raw = new Uint8Array(4 * count);
  for (let i = 0; i < text.length; i++) raw[4 * Math.floor(i / bytes) + 4 - bytes + (i % bytes)] = text.charCodeAt(i);
  return Float64Array.from(new Float32Array(raw.buffer)); // little-endian, as all processors with a browser
}

function row({ values, columns }, index) {
  return values.subarray(index * columns, (index + 1) * columns);
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Product of a matrix [output][input] and a vector; a plain loop, because nearly all time is spent here. */
function linear({ values, columns }, x) {
  const product = new Float64Array(values.length / columns);
  for (let i = 0, k = 0; i < product.length; i++) {
    let sum = 0;
    for (let j = 0; j < columns; j++, k++) sum += values[k] * x[j];
    product[i] = sum;
  }
  return product;
}

function add(a, b) {
  return new Float64Array(a).map((value, i) => value + b[i]);
}

function addResidual(updates, states, isPresent) {
  return isPresent ? updates.map((update, position) => add(update, states[position])) : updates;
}

function mlp(x, weights, block) {
  const hidden = linear(weights[`${block}.mlp.transformation.input.weight`], x);
  return linear(weights[`${block}.mlp.transformation.output.weight`], hidden.map(gelu));
}

function layerNorm(x, weights, name) {
  const mean = x.reduce((sum, value) => sum + value) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  const { values: scale } = weights[`${name}.weight`], { values: shift } = weights[`${name}.bias`];
  return x.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * scale[i] + shift[i]);
}

function softmax(scores) {
  const largest = Math.max(...scores);
  const exponentials = Array.from(scores, (score) => Math.exp(score - largest));
  const sum = exponentials.reduce((total, value) => total + value);
  return exponentials.map((value) => value / sum);
}

function gelu(x) {
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/** Error function to within 1.5e-7 (Abramowitz and Stegun 1964, formula 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

function positionAngle(position, pair, units) {
  return position / 10000 ** ((2 * pair) / units);
}

/** Half of the summed difference of two distributions: 0 if they are equal, 1 if they have nothing in common. */
function totalVariation(a, b) {
  return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / 2;
}
