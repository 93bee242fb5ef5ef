#!/usr/bin/env bash
# Build the wheel, install it in a clean environment and, outside the checkout, take a tiny shop through
# every stage: simulate, validate, train, evaluate, serve, recommend. Needs .venv (make makes it).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
server=
finish() {
  if [[ -n $server ]]; then kill -KILL "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
step() { printf '\n-- %s\n' "$*"; "$@"; }

mkdir "$work/source"
cp -R "$root"/{pyproject.toml,README.md,LICENSE,recsys,training,serving} "$work/source"
step "$root/.venv/bin/python" -m build --wheel --outdir "$work/dist" "$work/source"
wheel=$(echo "$work"/dist/*.whl)

"$root/.venv/bin/python" -m venv "$work/venv"
step "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  -c "$root/constraints.txt" "${wheel}[peers]"

cd "$work"
export PATH="$work/venv/bin:$PATH" HF_HUB_OFFLINE=1
python - "$root" <<'PYTHON'
import sys
import recsys, serving, training

for package in (recsys, serving, training):
    assert not package.__file__.startswith(sys.argv[1]), f"{package.__file__} is the checkout's"
PYTHON

cat > tiny.toml <<'TOML'
[windows]
label_days = 7.0
validation_days = 4.0

[cross_encoder]
candidates = 20
max_groups = 96
max_evaluation_groups = 32
groups_per_batch = 8
evaluation_steps = 6

[cross_encoder.negatives]
per_group = 4

[ranker]
rounds = 20
max_shoppers_per_window = 100
TOML

cut=2026-02-09T00:00:00Z
step recsys --help
step recsys simulate --out shop --users 150 --items 200 --days 49 --seed 7 --start 2026-01-05
step recsys validate shop
step recsys train shop --registry registry --until "$cut" --profile fast --config tiny.toml
step recsys evaluate shop --registry registry --from "$cut" --max-customers 40
step recsys bundles list --registry registry

port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
user=$(python -c 'import polars; print(polars.scan_parquet("shop/events/*.parquet").select(polars.col("user_id").min()).collect().item())')
address=127.0.0.1:$port
recsys serve --registry registry --port "$port" &
server=$!
ask() { recsys recommend "$user" --address "$address" --as-of "$cut" -k 5 "$@"; }
for _ in $(seq 60); do
  kill -0 "$server" 2>/dev/null || { echo "the server ended before it answered" >&2; exit 1; }
  if ask --json >answer.json 2>/dev/null; then break; fi
  sleep 1
done
step ask
python - answer.json <<'PYTHON'
import json, sys

items = json.load(open(sys.argv[1]))["items"]
assert len({item["item_id"] for item in items}) == 5, items
PYTHON
kill -TERM "$server"
wait "$server"
server=
echo "the wheel works"
