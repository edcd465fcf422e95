# make demo           install into .venv and spot the expressions of a film that the package makes itself
# make test           install what the tests need and run them
# make test-opencv4   the flow methods and the patch of cv2 once more, with the older OpenCV
# make test-sanitize  the tests of all that is native, under AddressSanitizer and UndefinedBehaviorSanitizer
# make test-avx512    the same on the AVX-512 kernels, emulated, for a CPU without AVX-512
# make test-threads   what runs on several threads once more, under ThreadSanitizer
# make fuzz           bad input without end: ten minutes each for arrays and films, under the same sanitizers
# make cases          10,000 cases of native kernels beside their Numba twins
# make soak           100,000 calls, after which memory must be where it was
# make docs           the documentation as HTML, in build/docs
# make wheels         a wheel for each Python here, installed without a compiler and tried
# make bench          benchmarks beside the stock libraries
# make accuracy       F1 of spot() on films of known truth, to docs/accuracy.md; takes most of an hour
# make roofline       what this machine could do at most
# make lint           ruff, mypy, clang-format, and the kernels with warnings as errors, with Clang too where it is

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find cpp python -name '*.[ch]pp' -o -name '*.py' -o -name '*.pyi')

.PHONY: demo test test-opencv4 test-sanitize test-avx512 test-threads fuzz cases soak wheels bench accuracy roofline docs lint clean

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
RUNTIMES := $$(for l in asan ubsan stdc++; do $(CXX) -print-file-name=lib$$l.so; done | xargs)
SANITIZED := LD_PRELOAD="$(RUNTIMES)" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitized

# Compilers, browsers and pages would tell nothing of the kernels, and twins are what `make fuzz` runs. What measures or
# limits the memory of a process measures the sanitizers'.
NOT_KERNELS := build docs bench report twins
MEMORY := little_memory or release_reaches or damage_at_random or minute_of_film

test-sanitize: build/sanitized
	$(SANITIZED) $(PYTEST) -k "not numba and not ($(MEMORY))" $(NOT_KERNELS:%=--ignore=tests/test_%.py) $(ARGS)

test-avx512: build/emulated
	PYTHONPATH=build/emulated $(PYTEST) -k "not numba and not baseline and not avx2" $(NOT_KERNELS:%=--ignore=tests/test_%.py) $(ARGS)

# Python is not sanitized here either. A fork is not for ThreadSanitizer, and its memory must lie where it expects it.
test-threads: build/sanitized-threads
	LD_PRELOAD="$$($(CXX) -print-file-name=libtsan.so)" TSAN_OPTIONS="exitcode=66 ignore_noninstrumented_modules=1" \
	  PYTHONPATH=build/sanitized-threads setarch -R $(BIN)/python -m pytest --benchmark-disable $(FLOW_TESTS) \
	  tests/test_backend.py tests/test_band_power.py -k "(threads or shared) and not numba and not fork" $(ARGS)

fuzz: build/sanitized build/libfuzzer.so
	set -e; for target in arrays frames; do \
	  LD_PRELOAD="$(CURDIR)/build/libfuzzer.so $(RUNTIMES)" ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 \
	  PYTHONPATH=build/sanitized $(BIN)/python tests/fuzz.py $$target -max_total_time=600 -rss_limit_mb=4000 \
	  -artifact_prefix=build/ $(ARGS); done

cases: .venv/for-test
	MMME_FAST_CASES=10000 $(BIN)/python -m pytest tests/test_twins.py $(ARGS)

# The sanitizers' library answers to the names of libFuzzer as well, and does nothing: libFuzzer must come before it.
build/libfuzzer.so: .venv/for-test
	$(BIN)/python -m pip install --quiet atheris
	mkdir -p build
	$(CXX) -shared -o $@ -Wl,--whole-archive \
	  $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/libclang_rt.fuzzer_no_main.a \
	  -Wl,--no-whole-archive

soak: .venv/for-test
	$(BIN)/python tests/soak.py

# Kernels that do not compile leave an install on Numba, on which these tests would say nothing.
DEFINE := MMME_SANITIZE=ON
build/sanitized-threads: DEFINE := MMME_SANITIZE=thread
build/emulated: DEFINE := MMME_EMULATE_AVX512=ON
build/sanitized build/sanitized-threads build/emulated: .venv/for-test
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target $@ --config-settings=build-dir=$@-objects \
	  --config-settings=cmake.define.$(DEFINE) .
	ls $@/mmme_fast/_core*.so
	touch $@

wheels:
	$(PYTHON) tests/wheels.py $(ARGS)

bench: .venv/for-test
	$(BIN)/python -m pytest benchmarks --benchmark-group-by=group --benchmark-json=build/bench.json $(ARGS)

accuracy: .venv/for-test
	$(BIN)/python benchmarks/accuracy.py $(ARGS)

roofline: benchmarks/roofline.cpp
	mkdir -p build
	$(CXX) -std=c++20 -O3 -fno-math-errno -march=native -mprefer-vector-width=512 -o build/roofline $<
	build/roofline

# -W: warnings are errors; -n: so are references to nothing. Examples are run by the tests (tests/test_docs.py).
docs: .venv/for-docs
	$(BIN)/python -m sphinx -W -n --keep-going -q -j auto -d build/doctrees docs build/docs

lint: .venv/for-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find cpp tests -name '*.[ch]pp')
	$(BIN)/python -c "import mmme_fast; assert 'baseline' in mmme_fast.backends(), 'the kernels did not compile without warnings'"
	if command -v clang++; then $(MAKE) build/clang/selfcheck; else echo "no clang++: the kernels were not compiled with it"; fi

# Clang warns of marked loops that it does not vectorise.
build/clang/selfcheck: $(shell find cpp) CMakeLists.txt
	$(BIN)/cmake -S . -B build/clang -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Release -DMMME_SELFCHECK=ON -DMMME_WERROR=ON
	$(BIN)/cmake --build build/clang --parallel 2
	$@ cpp/selfcheck.txt

# .venv/for-X holds the package as it stands now and the extras of X. With WERROR=ON, as for lint, compiler warnings are
# errors; the package then falls back to Numba, which tests and lint do not accept.
extras-demo := [eeg,report]
extras-test := [test]
extras-lint := [test,lint]
extras-docs := [docs]
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
