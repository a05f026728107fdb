# Policies on an NVIDIA GPU: training, and images rendered by gsplat. From the repository's root:
#   python -m build --wheel
#   docker build --file docker/cuda.Dockerfile --tag splatyard:cuda .
#   docker run --rm --gpus all --user "$(id -u)" --volume "$PWD:/data" splatyard:cuda \
#       splatyard train navigate --scene hall --device cuda
FROM python:3.11-slim-bookworm

# A compiler: gsplat builds its kernels at first use. Not pinned: Debian keeps only the newest versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        g++ \
        libegl1 libgl1 libglib2.0-0 libgomp1 libice6 libidn2-0 libsm6 libusb-1.0-0 libx11-6 libxcb1 libxext6 \
    && rm -rf /var/lib/apt/lists/*

# The CUDA compiler is from the same source and version as torch's CUDA libraries. Those lack the name the linker needs.
RUN --mount=type=bind,source=dist,target=/dist \
    --mount=type=bind,source=requirements.lock,target=/requirements.lock \
    pip install --no-cache-dir --constraint /requirements.lock \
        "$(echo /dist/splatyard-*.whl)[gpu,train,vision]" "cuda-toolkit[nvcc]" \
    && ln -s libcudart.so.13 /usr/local/lib/python3.11/site-packages/nvidia/cu13/lib/libcudart.so

# Any user may run it: Prefect, numba and torch store their files here, and the name replaces an entry in /etc/passwd.
ENV HOME=/tmp USER=splatyard NUMBA_CACHE_DIR=/tmp/numba TORCH_EXTENSIONS_DIR=/tmp/torch_extensions \
    CUDA_HOME=/usr/local/lib/python3.11/site-packages/nvidia/cu13 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
USER 1000:1000
WORKDIR /data
CMD ["splatyard", "--help"]
