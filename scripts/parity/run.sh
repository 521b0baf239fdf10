#!/bin/sh
# Writes tests/qsd/parity/*.json with the original implementations, in two environments.
#
#   scripts/parity/run.sh [FOLDER]    where the two environments are created (default: a folder under /tmp)
#
# There are two because the originals' version requirements conflict: image-reward needs transformers 4.27, hpsv2 runs with a recent one.
# No model is downloaded: architectures are reduced and weights random (scripts/parity/weights.py).
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-/tmp/qsd-originals}
uv=.venv/bin/uv
torch="torch==2.15.0 torchvision==0.29.2 pillow==12.3.0"
mkdir -p "$folder"

"$uv" venv --quiet --allow-existing --python .venv/bin/python "$folder/hpsv2"
# shellcheck disable=SC2086
"$uv" pip install --quiet --python "$folder/hpsv2" $torch open_clip_torch==3.3.0 transformers==5.23.0 pandas requests \
    clint pytest webdataset braceexpand fsspec einops
"$uv" pip install --quiet --python "$folder/hpsv2" --no-deps hpsv2==1.2.0
"$folder/hpsv2/bin/python" -m scripts.parity.original_hps

"$uv" venv --quiet --allow-existing --python .venv/bin/python "$folder/image-reward"
# shellcheck disable=SC2086
"$uv" pip install --quiet --python "$folder/image-reward" $torch "numpy<2" transformers==4.27.4 timm==0.6.13 \
    "huggingface-hub<0.26" accelerate==0.20.3 diffusers==0.16.1 datasets==2.14.7 "pyarrow<15" "setuptools<80" ftfy regex
"$uv" pip install --quiet --python "$folder/image-reward" --no-deps image-reward==1.5 fairscale==0.4.13 clip-anytorch
"$folder/image-reward/bin/python" -m scripts.parity.original_clip
"$folder/image-reward/bin/python" -m scripts.parity.original_image_reward
