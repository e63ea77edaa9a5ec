# What a node needs: for KubeRay, or for `docker:` in cluster.yaml (docs/cluster.md). PyTorch brings CUDA's libraries with
# its wheel and needs of the machine the driver alone, hence the smallest of NVIDIA's images: that of the wheel's CUDA, 13,
# which refuses to start where the driver is too old for it (below 580).
FROM nvidia/cuda:13.0.1-base-ubuntu22.04

# wget: KubeRay's probes; rsync: `ray up`. Their versions follow the image's distribution.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev python3-pip rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 likeness \
    && install --directory --owner likeness /shared

# likeness, by number: Kubernetes checks runAsNonRoot without the image's list of users.
USER 1000:1000
WORKDIR /home/likeness/likeness
ENV PATH=/home/likeness/likeness/.venv/bin:/home/likeness/.local/bin:$PATH \
    RAY_AUTH_MODE=token \
    MLFLOW_DISABLE_TELEMETRY=true

# Python 3.11, which constraints.txt was made with. Dependencies first: they change less often than the code.
COPY --chown=likeness:likeness pyproject.toml constraints.txt README.md LICENSE ./
RUN python3 -m pip install --no-cache-dir --user uv==0.13.8 \
    && uv venv --seed --python 3.11 .venv \
    && uv pip install --no-cache --constraint constraints.txt --requirements pyproject.toml \
        --extra demo --extra gpu --extra cluster

COPY --chown=likeness:likeness search search
COPY --chown=likeness:likeness trainer trainer
COPY --chown=likeness:likeness evaluation evaluation
COPY --chown=likeness:likeness demo demo
COPY --chown=likeness:likeness benchmarks benchmarks
RUN python -m pip install --no-cache-dir --constraint constraints.txt --no-deps --editable .

CMD ["python", "-m", "search.run", "--help"]
