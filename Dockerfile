# The environment, and the commands with the models that come with them:
#     docker build -t breaking-symmetry .
#     docker run --rm breaking-symmetry predict nope-causal 123+456=
# In a clone, with its code and results, as any user:
#     docker run --rm --user "$(id -u)" -v "$PWD:/work" breaking-symmetry repro
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY pipeline pipeline
RUN pip install --no-cache-dir uv && uv sync --locked --no-dev --no-editable --no-cache
# A user without a name gets one, and a home that can be written to.
ENV PATH=/app/.venv/bin:$PATH USER=user HOME=/tmp DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /work
ENTRYPOINT ["python", "-m", "pipeline"]
CMD ["--help"]
