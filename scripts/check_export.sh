#!/usr/bin/env bash
# Loads an exported folder with old and new releases of transformers and sentence-transformers, and in MTEB, and compares
# token ids, logits, embeddings and retrieval with ours: scripts/check_export.sh runs/demo/tcm/export
# It makes an environment for each old release in .venv-export (some minutes and 1.5 GB each, only once); the new ones are
# those of .venv, which the tests use, too.
source "$(dirname "$0")/environment.sh"
[ $# -eq 1 ] || { echo "usage: $0 EXPORT_FOLDER" >&2; exit 2; }
releases=(
  "sentence-transformers==3.3.1 transformers==4.46.3"
  "sentence-transformers==5.1.2 transformers==4.57.1"
)
compare() { # python of an environment, export
  HF_HUB_OFFLINE=1 "$1" scripts/check_export.py compare "$2" .venv-export/expected.npz
}
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
  compare "$folder/bin/python" "$1"
done
say "$(grep -E '^(sentence-transformers|transformers|mteb)==' constraints.txt | tr '\n' ' ')"
compare python "$1"
say "all releases compute what we compute"
