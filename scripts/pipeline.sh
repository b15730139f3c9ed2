#!/usr/bin/env bash
# From data to score: LongWriter's whole recipe in one script.
#
#   select → run → sft → train → (merge) → evaluate → dpo → train → evaluate → report
#
#   WRITER=gpt-4o-2024-11-20 OPENAI_API_KEY=… bash scripts/pipeline.sh
#
# Every step can be interrupted: run the same command again to resume. A finished step is skipped
# or finds its own results. Needs `pip install "longwriter[train]"`, GPUs as the recipe says, and
# vLLM to serve the model between SFT and DPO.
set -euo pipefail

# The model that plans and writes the training texts, and its OpenAI-compatible endpoint.
WRITER=${WRITER:-gpt-4o-2024-11-20}
BASE_URL=${BASE_URL:-${OPENAI_BASE_URL:-https://api.openai.com/v1}}
# The judge scores DPO samples and the benchmark: a profile (`longwriter judges` lists them), and the
# address of one that you serve. Its key is LONGWRITER_JUDGE_API_KEY or its provider's.
JUDGE=${JUDGE:-gpt-4o-2024-11-20}
JUDGE_URL=${JUDGE_URL:-}
# The recipes: `longwriter recipes ls` lists them. A name with "lora" in it is merged after training.
SFT_RECIPE=${SFT_RECIPE:-llama3.1-8b/sft}
DPO_RECIPE=${DPO_RECIPE:-llama3.1-8b/dpo}
# Where instructions come from: a hub dataset or a JSONL file; and how many of each language.
SOURCE=${SOURCE:-allenai/WildChat-1M}
QUOTAS=${QUOTAS:---quota en=3000 --quota zh=3000}
# More options of single steps, such as `--min-words 500`.
SELECT_OPTIONS=${SELECT_OPTIONS:-}
RUN_OPTIONS=${RUN_OPTIONS:-}
SFT_OPTIONS=${SFT_OPTIONS:-}
DPO_OPTIONS=${DPO_OPTIONS:-}
TRAIN_OPTIONS=${TRAIN_OPTIONS:-}
# The benchmark, and lm-eval's own options for the model under test.
TASKS=${TASKS:-longbench_write}
EVAL_MODEL=${EVAL_MODEL:-hf}
EVAL_MODEL_ARGS=${EVAL_MODEL_ARGS:-dtype=bfloat16}
EVAL_OPTIONS=${EVAL_OPTIONS:---batch_size 1 --seed 42}
# The endpoint that serves the SFT model for DPO's samples. Empty: this script starts vLLM.
POLICY_URL=${POLICY_URL:-}
POLICY=${POLICY:-policy}
# Where everything goes.
OUT=${OUT:-runs/pipeline}

export LONGWRITER_JUDGE=$JUDGE LONGWRITER_JUDGE_BASE_URL=$JUDGE_URL
mkdir -p "$OUT"

step() { printf '\n=== %s\n' "$*"; }

# Reads a setting of a recipe, such as output_dir.
setting() { sed -n "s/^$2: *\([^ #]*\).*/\1/p" "$1"; }

# Copies a recipe and points its first data set, the one for long texts, to our own file.
recipe() { # NAME DATA FILE
  longwriter recipes cp "$1" "$OUT/recipes" > "$OUT/recipes.log"
  awk -v data="$2" '/^  - path:/ && !done { sub(/path: [^ ]*/, "path: " data); done = 1 }
    done && /^    split: train *$/ && !cut { cut = 1; next } { print }' \
    "$OUT/recipes/$1.yaml" > "$3"
}

# Trains a recipe, unless its model is there already. Prints nothing but the step.
train() { # FILE
  local output; output=$(setting "$1" output_dir)
  if [ -f "$output/config.json" ] || [ -f "$output/merged/config.json" ]; then
    echo "$output is trained"
    return
  fi
  longwriter recipes check "$1"
  # shellcheck disable=SC2086
  axolotl train "$1" --auto-resume-from-checkpoints $TRAIN_OPTIONS
  if grep -q '^adapter:' "$1"; then axolotl merge-lora "$1"; fi
}

# The folder of a trained model: merged, if the recipe trained an adapter.
model_of() { # FILE
  local output; output=$(setting "$1" output_dir)
  if [ -d "$output/merged" ]; then echo "$output/merged"; else echo "$output"; fi
}

evaluate() { # MODEL NAME
  # shellcheck disable=SC2086
  lm_eval run --tasks "$TASKS" --model "$EVAL_MODEL" \
    --model_args "pretrained=$1,$EVAL_MODEL_ARGS" $EVAL_OPTIONS \
    --apply_chat_template --log_samples --output_path "$OUT/scores/$2"
}

step "select: instructions that need thousands of words"
# shellcheck disable=SC2086
agentwrite select "$SOURCE" -o "$OUT/instructions.jsonl" --model "$WRITER" --base-url "$BASE_URL" \
  $QUOTAS $SELECT_OPTIONS

step "run: plan and write a text for each"
# shellcheck disable=SC2086
agentwrite run "$OUT/instructions.jsonl" -o "$OUT/texts" --model "$WRITER" \
  --base-url "$BASE_URL" $RUN_OPTIONS

step "sft: filter the texts and make training rows"
# shellcheck disable=SC2086
agentwrite sft "$OUT/texts" -o "$OUT/sft.jsonl" $SFT_OPTIONS

step "train: SFT, $SFT_RECIPE"
recipe "$SFT_RECIPE" "$OUT/sft.jsonl" "$OUT/sft.yaml"
train "$OUT/sft.yaml"
SFT_MODEL=$(model_of "$OUT/sft.yaml")

step "evaluate: $SFT_MODEL"
evaluate "$SFT_MODEL" sft

step "dpo: sample answers of the SFT model, judge them, make pairs"
if [ -z "$POLICY_URL" ]; then
  vllm serve "$SFT_MODEL" --served-model-name "$POLICY" --max-model-len 40960 --port 8000 \
    > "$OUT/vllm.log" 2>&1 &
  SERVER=$!
  trap 'kill "$SERVER" 2> /dev/null || true' EXIT
  POLICY_URL=http://localhost:8000/v1
  until curl -fsS "$POLICY_URL/models" > /dev/null 2>&1; do
    kill -0 "$SERVER" || { echo "vLLM ended; see $OUT/vllm.log" >&2; exit 1; }
    sleep 5
  done
fi
# shellcheck disable=SC2086
agentwrite dpo "$OUT/instructions.jsonl" -o "$OUT/dpo.jsonl" --model "$POLICY" \
  --base-url "$POLICY_URL" $DPO_OPTIONS
if [ -n "${SERVER:-}" ]; then
  kill "$SERVER"
  wait "$SERVER" || true
  trap - EXIT
fi

step "train: DPO, $DPO_RECIPE"
recipe "$DPO_RECIPE" "$OUT/dpo.jsonl" "$OUT/dpo.yaml"
sed -i.bak "s|^base_model:.*|base_model: $SFT_MODEL|" "$OUT/dpo.yaml"
train "$OUT/dpo.yaml"
DPO_MODEL=$(model_of "$OUT/dpo.yaml")

step "evaluate: $DPO_MODEL"
evaluate "$DPO_MODEL" dpo

step "report: both models side by side"
longwriter report "$OUT/scores/sft" "$OUT/scores/dpo" -o "$OUT/report.html"
