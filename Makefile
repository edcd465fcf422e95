# make demo           install into .venv and spot the expressions of a film that the package makes itself
# make test           install what the tests need and run them
# make test-opencv4   the flow methods and the patch of cv2 once more, with the older OpenCV
# make test-sanitize  the flow methods once more, under AddressSanitizer and UndefinedBehaviorSanitizer
# make bench          benchmarks beside the stock libraries
# make accuracy       F1 of spot() on films of known truth, to docs/accuracy.md; takes most of an hour
# make roofline       what this machine could do at most
# make lint           ruff, mypy, clang-format, and the kernels with warnings as errors

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find cpp python -name '*.[ch]pp' -o -name '*.py' -o -name '*.pyi')

.PHONY: demo test test-opencv4 test-sanitize bench accuracy roofline lint clean

demo: .venv/for-demo
	$(BIN)/mmme-fast demo --out demo

# Two processes, each with its share of the tests in their order, so that neither compiles all of the Numba twins.
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --benchmark-disable

test: .venv/for-test
	$(PYTEST) $(ARGS)

FLOW_TESTS := tests/test_tvl1.py tests/test_farneback.py tests/test_dis.py tests/test_flow.py

test-opencv4: .venv/for-test build/opencv4
	PYTHONPATH=build/opencv4 $(PYTEST) $(FLOW_TESTS) -k "baseline and (opencv or parity or parameters)" $(ARGS)
	PYTHONPATH=build/opencv4 $(PYTEST) tests/test_patch.py tests/test_pipelines.py -k "not numba" $(ARGS)

build/opencv4: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --target $@ "opencv-contrib-python-headless<5"

# Python itself is not sanitized: it must find the sanitizers, and the library whose exceptions they watch, loaded.
test-sanitize: .venv/for-test
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target build/sanitized --config-settings=build-dir=build/sanitize \
	  --config-settings=cmake.define.MMME_SANITIZE=ON .
	LD_PRELOAD="$$(for l in asan ubsan stdc++; do $(CXX) -print-file-name=lib$$l.so; done | xargs)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=build/sanitized $(PYTEST) $(FLOW_TESTS) -k "not numba and (opencv or parity or shapes)" $(ARGS)

bench: .venv/for-test
	$(BIN)/python -m pytest benchmarks --benchmark-group-by=group --benchmark-json=build/bench.json $(ARGS)

accuracy: .venv/for-test
	$(BIN)/python benchmarks/accuracy.py $(ARGS)

roofline: benchmarks/roofline.cpp
	mkdir -p build
	$(CXX) -std=c++20 -O3 -fno-math-errno -march=native -mprefer-vector-width=512 -o build/roofline $<
	build/roofline

lint: .venv/for-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find cpp -name '*.[ch]pp')
	$(BIN)/python -c "import mmme_fast; assert 'baseline' in mmme_fast.backends(), 'the kernels did not compile without warnings'"

# .venv/for-X holds the package as it stands now and the extras of X. With WERROR=ON, as for lint, compiler warnings are
# errors; the package then falls back to Numba, which tests and lint do not accept.
extras-demo := [eeg,report]
extras-test := [test]
extras-lint := [test,lint]
WERROR ?= OFF
werror-lint := ON
.venv/for-%: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade --config-settings=cmake.define.MMME_WERROR=$(or $(werror-$*),$(WERROR)) ".$(extras-$*)"
	$(BIN)/mmme-fast info
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

clean:
	rm -rf .venv build demo
