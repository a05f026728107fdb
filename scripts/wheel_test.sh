#!/bin/sh
# Builds the wheel, installs it into a bare venv, and runs its doctor and one tiny build there, outside the checkout.
# Usage: wheel_test.sh PYTHON, a Python that has `build` and the tests' dependencies.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

cd "$root"
"$python" -m build --wheel --outdir "$place/dist" . > "$place/build.log" 2>&1 || { cat "$place/build.log"; exit 1; }
"$python" -m scripts.tiny_capture "$place/tiny scän"
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock "$place"/dist/splatyard-*.whl

cd "$place"
PATH="$place/venv/bin:$PATH"
PREFECT_HOME="$place/prefect"
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
