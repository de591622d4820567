#!/usr/bin/env bash
# Loads an exported folder with old and new releases of transformers and sentence-transformers, and in MTEB, and compares
# token ids, logits, embeddings and retrieval with ours: scripts/check_export.sh runs/demo/tcm/export
# It makes an environment for each release in .venv-export (some minutes and 1.5 GB each, only once).
source "$(dirname "$0")/environment.sh"
[ $# -eq 1 ] || { echo "usage: $0 EXPORT_FOLDER" >&2; exit 2; }
releases=(
  "sentence-transformers==3.3.1 transformers==4.46.3"
  "sentence-transformers==5.1.2 transformers==4.57.1"
  "sentence-transformers==6.2.0 transformers==5.23.0 mteb==2.26.24"
)
make_environment demo,dev
torch=$(grep -E '^torch==' constraints.txt)
mkdir -p .venv-export
python scripts/check_export.py expected "$1" .venv-export/expected.npz
for packages in "${releases[@]}"; do
  say "$packages"
  folder=.venv-export/$(echo "$packages" | cut -d' ' -f1 | tr -d '=')
  if [ "$(cat "$folder/installed" 2>/dev/null)" != "$packages" ]; then
    python -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --progress-bar off "$torch"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --progress-bar off "$torch" sentencepiece protobuf $packages
    echo "$packages" >"$folder/installed"
  fi
  HF_HUB_OFFLINE=1 "$folder/bin/python" scripts/check_export.py compare "$1" .venv-export/expected.npz
done
say "all releases compute what we compute"
