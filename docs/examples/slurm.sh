#!/usr/bin/env bash
# A search over the nodes of a Slurm job: sbatch docs/examples/slurm.sh. Submitted again it goes on.
#SBATCH --job-name=detr-automl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
data=${DATA:?the dataset, on storage that all nodes see}
run=${RUN:?the run folder, on storage that all nodes see}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=6379

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port" --block &
sleep 20
workers=$((SLURM_JOB_NUM_NODES - 1))
if [ "$workers" -gt 0 ]; then
  srun --nodes="$workers" --ntasks="$workers" --exclude="$head" ray start --address="$head:$port" --block &
  sleep 20
fi

if [ -e "$run/run.json" ]; then
  automl resume "$run" &
else
  automl run --data "$data" --ray-address "$head:$port" --results-dir "$run" --time 11h &
fi
search=$!
trap 'kill -TERM "$search"' TERM  # it stops in order, and may be resumed
wait "$search"
