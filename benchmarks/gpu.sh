#!/usr/bin/env bash
# All that one GPU should be asked about the training step, in about ten minutes and without a network:
#     bash benchmarks/gpu.sh > gpu.log
# The last parts need the shards of `translit-scale demo`. In small, to try it on a CPU:
#     SIZE="--hidden 64 --layers 2 --vocabulary 300" PAIRS="2 4" BATCH=8 LARGE=16 STEPS=4 bash benchmarks/gpu.sh
PAIRS=${PAIRS:-256 512} BATCH=${BATCH:-4096} LARGE=${LARGE:-65536} STEPS=${STEPS:-60}
part() {  # title, seconds at most, command
    echo "== $1 ($SECONDS s)"
    timeout "${@:2}" 2>&1
    echo "exit code $?"
}
bench() { part "$1" 90 python benchmarks/gpu.py $SIZE --steps 3 "${@:2}"; }
train() { part "$1" 60 python scripts/train.py train.max_steps=$STEPS run.dir=runs/gpu "${@:2}"; }

part "tests that need a GPU" 150 python -m pytest -q tests/test_gpu.py
bench "as shipped for one GPU" --micro $PAIRS --batches $BATCH
bench "ZeRO 1" --stage 1 --micro $PAIRS --batches
bench "low-precision layer normalisation" --low-precision-layernorm --micro $PAIRS --batches
bench "compiled" --compile --micro $PAIRS --batches
bench "compiled, low-precision layer normalisation" --compile --low-precision-layernorm --micro $PAIRS --batches
bench "the largest effective batch" --steps 1 --micro ${PAIRS##* } --batches $LARGE
train "the default experiment, micro-batches by memory" --ds_config zero0
train "fp16" --ds_config zero1 train.precision=fp16 run.name=fp16
train "ZeRO 3" --ds_config zero3 run.name=zero3
train "ZeRO 2 with offload" --ds_config zero2_offload run.name=offload
train "compiled, several micro-batches" --ds_config paper_a train.compile=true run.name=compiled
