# The interpreter for the engine isaacgym: Python 3.8 with Isaac Gym Preview 4, for one NVIDIA GPU. Usage: docs/gpu.md.
# NVIDIA's archive may not be redistributed, so the build takes yours from a folder that contains nothing else:
#   docker build --file docker/isaacgym.Dockerfile --tag splatyard-isaacgym FOLDER_OF_IsaacGym_Preview_4_Package.tar.gz
FROM nvidia/cuda:11.7.1-devel-ubuntu20.04

# A compiler: Isaac Gym builds its bridge to torch (gymtorch) at its first import.
# Not pinned: Ubuntu keeps only the newest package versions of a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        g++ python3.8 python3.8-dev python3-pip \
        libgl1 libglib2.0-0 libvulkan1 libx11-6 libxcursor1 libxi6 libxinerama1 libxrandr2 \
    && rm -rf /var/lib/apt/lists/*

# torch 2.0.1 is built for CUDA 11.7; numpy 1.24 has no np.float, which Isaac Gym's helpers still use.
RUN python3.8 -m pip install --no-cache-dir --upgrade "pip==24.0" "setuptools==69.5.1" "wheel==0.43.0" \
    && python3.8 -m pip install --no-cache-dir \
        torch==2.0.1 torchvision==0.15.2 numpy==1.23.5 scipy==1.10.1 pyyaml==6.0.1 pillow==10.4.0 imageio==2.35.1 \
        ninja==1.11.1.1

ADD IsaacGym_Preview_4_Package.tar.gz /opt/
RUN python3.8 -m pip install --no-cache-dir --no-deps --editable /opt/isaacgym/python

# Any user may run it; /tmp is shared with the host, so the bridge is built once.
ENV HOME=/tmp TORCH_EXTENSIONS_DIR=/tmp/splatyard-isaacgym-torch NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
USER 1000:1000
ENTRYPOINT ["python3.8"]
