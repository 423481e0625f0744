# docker build -t detr-automl .            CPU and NVIDIA GPUs: torch's wheel brings CUDA; run with --gpus all
# docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t detr-automl:cpu .
FROM python:3.12-slim

# A compiler builds the attention kernels at first use.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX=https://pypi.org/simple
WORKDIR /opt/detr-automl
# pyproject.toml bounds the versions.
COPY pyproject.toml README.md LICENSE ./
COPY automl automl
COPY model model
COPY safe_documents safe_documents
COPY standard_streams standard_streams
COPY schemas schemas
COPY references references
COPY csrc csrc
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch torchvision \
    && pip install --no-cache-dir .

RUN useradd --create-home --uid 1000 automl
USER 1000
WORKDIR /home/automl
ENTRYPOINT ["automl"]
CMD ["--help"]
