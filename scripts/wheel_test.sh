#!/bin/sh
# Build the wheel, install it into a bare venv, and run the doctor and a tiny build there, outside the checkout.
# Usage: wheel_test.sh PYTHON (a Python with `build` and the tests' dependencies)
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
"$python" -m build --wheel --outdir "$work/dist" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m scripts.tiny_capture "$work/tiny scän"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    --constraint requirements.lock "$work"/dist/splatyard-*.whl

cd "$work"
PATH="$work/venv/bin:$PATH"
PREFECT_HOME="$work/prefect"
export PATH PREFECT_HOME
build() {
    splatyard build "tiny scän" --name tiny --set splat.gaussians=1500 --set splat.iterations=40 \
        --set splat.sim_gaussians=800 --set splat.sim_iterations=5 --set mesh.voxel_size=0.05
}
splatyard --version
splatyard doctor
build
splatyard inspect tiny@1.0.0 --json > inspected.json
build > again.txt
grep "nothing to do" again.txt
echo "the wheel works"
