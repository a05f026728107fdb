# Builds on an NVIDIA GPU with every backend. Two interpreters: /opt/splatyard, and /opt/learned with VGGT, Depth Anything 3,
# NKSR and gsplat, whose packages conflict with ours. From the repository's root:
#   python -m build --wheel
#   docker build --file docker/learned.Dockerfile --tag splatyard:learned .
#   docker run --rm --gpus all --user "$(id -u)" --volume "$PWD:/data" splatyard:learned \
#       splatyard build photos --out bundles \
#       --set poses.python=/opt/learned/bin/python --set depth.python=/opt/learned/bin/python \
#       --set mesh.python=/opt/learned/bin/python --set splat.python=/opt/learned/bin/python
# NKSR may be used for research and evaluation only; check its licence before redistributing the image.
FROM nvidia/cuda:12.6.3-devel-ubuntu24.04

# Not pinned: Ubuntu keeps only the newest package versions of a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        g++ git python3.12-dev python3.12-venv \
        libegl1 libgl1 libglib2.0-0t64 libgomp1 libice6 libidn2-0 libsm6 libusb-1.0-0 libx11-6 libxcb1 libxext6 \
    && rm -rf /var/lib/apt/lists/*

RUN --mount=type=bind,source=dist,target=/dist \
    --mount=type=bind,source=requirements.lock,target=/requirements.lock \
    python3.12 -m venv /opt/splatyard \
    && /opt/splatyard/bin/pip install --no-cache-dir --constraint /requirements.lock /dist/splatyard-*.whl

RUN python3.12 -m venv /opt/learned \
    && /opt/learned/bin/pip install --no-cache-dir torch==2.7.0 torchvision==0.22.0

# Their other dependencies are not pinned: pip chooses versions compatible with the torch above.
# hadolint ignore=DL3013
RUN /opt/learned/bin/pip install --no-cache-dir --no-deps \
        'vggt @ git+https://github.com/facebookresearch/vggt@a288dd0f14786c93483e45524328726ab7b1b4ce' \
    && /opt/learned/bin/pip install --no-cache-dir \
        'numpy<2' pillow einops safetensors huggingface_hub \
        depth-anything-3==0.1.1 xformers==0.0.30 gsplat==1.5.3 ninja packaging

# No GPU is available during the build, so the target architectures are listed.
# hadolint ignore=DL3013
RUN /opt/learned/bin/pip install --no-cache-dir \
        numpy setuptools wheel GitPython omegaconf tqdm pykdtree open3d-cpu 'python-pycg>=1.0.1' \
    && export CUDA_HOME=/usr/local/cuda FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="7.5 8.0 8.6 8.9 9.0+PTX" MAX_JOBS=4 \
    && /opt/learned/bin/pip install --no-cache-dir --no-build-isolation torch-scatter \
    && /opt/learned/bin/pip install --no-cache-dir --no-build-isolation \
        'nksr @ git+https://github.com/nv-tlabs/NKSR@b0edf84834aedafff11c5317d5ef00dd53f067ef#subdirectory=package'

# Any user may run it: Prefect, numba, torch and the weights are stored here; the name replaces an entry in /etc/passwd.
ENV HOME=/tmp USER=splatyard NUMBA_CACHE_DIR=/tmp/numba TORCH_EXTENSIONS_DIR=/tmp/torch_extensions \
    CUDA_HOME=/usr/local/cuda PATH=/opt/splatyard/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
USER 1000:1000
WORKDIR /data
CMD ["splatyard", "--help"]
