# The CPU pipeline and the simulator, as a command, as a lab (compose.yaml), and for Prefect's Docker and Kubernetes work
# pools. From the repository's root:
#   python -m build --wheel
#   docker build --file docker/cpu.Dockerfile --tag splatyard:cpu .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/data" splatyard:cpu splatyard build photos --out bundles
FROM python:3.11-slim-bookworm

# Not pinned: Debian keeps only the newest package versions of a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        libegl1 libgl1 libglib2.0-0 libgomp1 libice6 libidn2-0 libsm6 libusb-1.0-0 libx11-6 libxcb1 libxext6 \
    && rm -rf /var/lib/apt/lists/*

# Mounted, not copied: the image contains only the installed packages.
RUN --mount=type=bind,source=dist,target=/dist \
    --mount=type=bind,source=requirements.lock,target=/requirements.lock \
    pip install --no-cache-dir --constraint /requirements.lock "$(echo /dist/splatyard-*.whl)[sim]"

# Any user may run it: Prefect and numba store their files here, and the name replaces an entry in /etc/passwd.
ENV HOME=/tmp USER=splatyard NUMBA_CACHE_DIR=/tmp/numba
# Of `splatyard up`: Prefect's page, and the page for phones.
EXPOSE 4200 4201
USER 1000:1000
WORKDIR /data
CMD ["splatyard", "--help"]
