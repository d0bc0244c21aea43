# Everything works on a fresh machine with python3 (3.11 to 3.13, with venv), make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Three processes, however many cores there are: TensorFlow spreads each test over all of them, and some tests wait for
# processes of their own.
PARALLEL := -n 3 --dist worksteal
COURSES := exp1_1 exp1_2 exp1_3 exp1_4 exp2 patchify optimizers dropout pooling resolution smoothing interpolation
COURSES_SCALE := small

.PHONY: demo check test test-long lint test-peers test-extras test-ray test-kills sweep-imagenet64 courses clean
.DELETE_ON_ERROR:

# The stamps are newer than the requirement files once these are installed.
$(VENV)/run.stamp: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/extras.stamp: requirements-extras.txt $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-extras.txt
	touch $@

$(VENV)/peers.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt torch==2.13.0 timm onnx onnxruntime
	touch $@

demo: $(VENV)/run.stamp
	$(BIN)/python -m jobs.demo

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Before a commit: the style, the types and the quick tests. What is listed at its end is to be
# marked slow, or made quicker.
check: lint
	$(BIN)/python -m pytest -q $(PARALLEL) --durations 10 --durations-min 2 -m "not slow and not long and not peers and not extras"

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not long and not peers and not extras"

# Kills by the dozen, whole sweeps, real teachers, the notebook and the tutorial from end to end.
test-long: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q $(PARALLEL) -m "long and not peers and not extras"

# PyTorch's default wheel brings gigabytes, so the comparisons with it are a target of their own.
test-peers: $(VENV)/peers.stamp
	$(BIN)/python -m pytest -q -m peers

# What needs the optional packages: OpenVINO, Apache Beam and others.
test-extras: $(VENV)/extras.stamp
	$(BIN)/python -m pytest -q -m extras

# A cluster of Ray on this machine, whose workers and machines die. On a busy machine it may take long.
test-ray: $(VENV)/extras.stamp
	TFPIPELINE_TEST_RAY=1 $(BIN)/python -m pytest -q tests/work/test_on_ray.py

# Every command, killed KILLS times and run again: what is left is what one undisturbed run leaves.
KILLS ?= 10
test-kills: $(VENV)/dev.stamp
	TFPIPELINE_KILLS=$(KILLS) $(BIN)/python -m pytest -q -s tests/faults/test_kills.py

# Takes hours: the students of docs/results.md, from real images in D and the label stores in L, both made there.
sweep-imagenet64: $(VENV)/run.stamp
	@test -n "$(D)" && test -n "$(L)" || { echo "give D=archives L=labels, the folders that docs/results.md names" >&2; exit 2; }
	D="$(D)" L="$(L)" $(BIN)/python -m jobs.experiment --sweep recipes/imagenet64.toml --out runs/imagenet64-sweep
	D="$(D)" L="$(L)" $(BIN)/python -m jobs.experiment --sweep recipes/imagenet64-best.toml --out runs/imagenet64-best

# The experiments of the courses by name, small ones: tables and pictures as in docs/answers.md, into runs/.
# `make courses IMAGES=cifar10` takes real images, ARCHIVES=DIR where their archives are; COURSES=exp1_1 one experiment, and
# COURSES_SCALE=full 20,000 images, for hours.
courses: $(VENV)/run.stamp
	for name in $(COURSES); do \
	    $(BIN)/python -m jobs.experiment --sweep $$name --scale $(COURSES_SCALE) --quiet \
	        $(if $(IMAGES),--images $(IMAGES)) $(if $(ARCHIVES),--archives $(ARCHIVES)) || exit $$?; \
	done

clean:
	rm -rf $(VENV) demo runs build dist *.egg-info
