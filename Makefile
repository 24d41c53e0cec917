# Decant. `make help` lists the targets.
BUILD ?= build
CC ?= cc
SANITIZE ?=
COVERAGE ?=
PYTHON ?= /usr/bin/python3
JOBS ?= $(shell nproc)

WARNINGS = -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wno-float-conversion -Wstrict-prototypes
CPPFLAGS = -I. -D_GNU_SOURCE -MMD -MP
CFLAGS = -std=gnu17 -O3 -g -march=x86-64-v2 -fno-math-errno -fno-trapping-math -fstack-protector-strong $(WARNINGS)
LDLIBS_COMMON = -lopenblas -lxxhash -ljansson -lmicrohttpd -luv -lzmq -lm -lpthread
LDLIBS_PROTO = -lmsgpackc $(LDLIBS_COMMON)
LDLIBS_DATA = -lpng -ljpeg -lwebp -ltiff -larchive -lzip -lz -lutf8proc
LDLIBS_CLI = -lhiredis -llbfgs -lcairo
ifneq ($(SANITIZE),)
CFLAGS += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -O1
LDFLAGS += -fsanitize=$(SANITIZE)
endif
ifneq ($(COVERAGE),)
CFLAGS += --coverage -fprofile-update=atomic -O1
LDFLAGS += --coverage
endif

ROOMS = common proto server/shell server/prototype server/parameter worker worker/data worker/nn worker/loss cli
MAINS = server/prototype/prototype_main.c server/parameter/parameter_main.c worker/worker_main.c cli/decant_main.c
sources = $(filter-out $(MAINS),$(wildcard $(1)/*.c))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(call sources,$(1)))
comma = ,
lib = $(BUILD)/lib/lib$(subst /,_,$(1)).a

COMMON = $(call lib,common)
PROTO = $(call lib,proto)
SERVER_SHELL = $(call lib,server/shell)
PROTOTYPE = $(call lib,server/prototype) $(SERVER_SHELL)
PARAMETER = $(call lib,server/parameter) $(SERVER_SHELL)
WORKER = $(call lib,worker) $(call lib,worker/loss) $(call lib,worker/nn) $(call lib,worker/data)
CLI = $(call lib,cli)
BINS = $(addprefix $(BUILD)/bin/,decant decant-prototype decant-parameter decant-worker)

.PHONY: all help
all: $(BINS) ## build the four binaries under build/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z_.-]+:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

# Servers and workers compute teachers, and must get the same bytes with whatever kernels (proto/teacher.h).
$(BUILD)/obj/proto/teacher.o: override CFLAGS += -ffp-contract=off

# The dashboard's page is in the binary: cli/dashboard_page.c includes it as bytes.
$(BUILD)/obj/cli/dashboard_page.o: cli/page/page.html

define room_lib
$(call lib,$(1)): $(call objects,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_lib,$(r))))

$(BUILD)/bin/decant-prototype: $(BUILD)/obj/server/prototype/prototype_main.o $(PROTOTYPE) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ -lhiredis $(LDLIBS_PROTO)
$(BUILD)/bin/decant-parameter: $(BUILD)/obj/server/parameter/parameter_main.o $(PARAMETER) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ $(LDLIBS_PROTO)
$(BUILD)/bin/decant-worker: $(BUILD)/obj/worker/worker_main.o $(WORKER) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ $(LDLIBS_DATA) $(LDLIBS_PROTO)
$(BUILD)/bin/decant: $(BUILD)/obj/cli/decant_main.o $(CLI) $(WORKER) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ $(LDLIBS_CLI) $(LDLIBS_DATA) $(LDLIBS_PROTO)

# Unit tests: tests/unit/ROOM/test_*.c is one cmocka program, linked with that room and what it may use, so that an
# include against the arrows does not even link.
UNIT_LIBS_common = $(COMMON)
UNIT_LIBS_proto = $(PROTO) $(COMMON)
UNIT_LIBS_shell = $(SERVER_SHELL) $(PROTO) $(COMMON)
UNIT_LIBS_prototype = $(PROTOTYPE) $(PROTO) $(COMMON)
UNIT_LIBS_parameter = $(PARAMETER) $(PROTO) $(COMMON)
UNIT_LIBS_worker = $(WORKER) $(PROTO) $(COMMON)
UNIT_LIBS_cli = $(CLI) $(WORKER) $(PROTO) $(COMMON)
UNIT = $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(foreach r,common proto shell prototype parameter worker cli,$(wildcard tests/unit/$(r)/test_*.c)))
define unit_room
$(BUILD)/tests/$(1)/%: $(BUILD)/obj/tests/unit/$(1)/%.o $(UNIT_LIBS_$(1))
	@mkdir -p $$(@D)
	@echo "  LINK    $$@"
	@$(CC) $(LDFLAGS) $$^ -o $$@ -lcmocka $(LDLIBS_CLI) $(LDLIBS_DATA) $(LDLIBS_PROTO)
endef
$(foreach r,common proto shell prototype parameter worker cli,$(eval $(call unit_room,$(r))))

# The network and the losses once more in double, for finite differences: tests/unit/f64/test_*.c.
F64_SOURCES = $(call sources,worker/nn) $(call sources,worker/loss)
F64_OBJECTS = $(patsubst %.c,$(BUILD)/obj64/%.o,$(F64_SOURCES))
UNIT64 = $(patsubst tests/unit/f64/%.c,$(BUILD)/tests/f64/%,$(wildcard tests/unit/f64/test_*.c))
$(BUILD)/obj64/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC f64  $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -DNN_DOUBLE -c $< -o $@
$(BUILD)/tests/f64/%: $(BUILD)/obj64/tests/unit/f64/%.o $(F64_OBJECTS) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ -lcmocka $(LDLIBS_PROTO)

BENCH = $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/bench_*.c))
LOAD = $(patsubst %.c,$(BUILD)/obj/%.o,tests/bench/bench_load.c $(wildcard tests/bench/load/*.c))
$(BUILD)/bench/bench_load: $(LOAD) $(WORKER) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ $(LDLIBS_PROTO)
$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(CLI) $(PROTOTYPE) $(PARAMETER) $(WORKER) $(PROTO) $(COMMON)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ $(LDLIBS_CLI) $(LDLIBS_DATA) $(LDLIBS_PROTO)

# All three programs in one.
SIM_LIBS = $(PARAMETER) $(PROTOTYPE) $(WORKER) $(PROTO) $(COMMON)

# Fuzzers of everything that reads foreign bytes. tests/fuzz/README.md. Each is linked twice: with a driver of its own, so
# that any compiler can build it, and below $(BUILD)/guided with libFuzzer, which takes clang.
FUZZ_NAMES ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(filter-out %/fuzz_main.c,$(wildcard tests/fuzz/fuzz_*.c)))
FUZZ = $(FUZZ_NAMES:%=$(BUILD)/fuzz/fuzz_%)
GUIDED = $(FUZZ_NAMES:%=$(BUILD)/guided/fuzz_%)
FUZZ_LIBS = $(BUILD)/obj/tests/fuzz/scratch.o $(CLI) $(SIM_LIBS)
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/obj/tests/fuzz/fuzz_main.o $(FUZZ_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ $(LDLIBS_CLI) $(LDLIBS_DATA) $(LDLIBS_PROTO)
$(BUILD)/guided/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ -o $@ $(LDLIBS_CLI) $(LDLIBS_DATA) $(LDLIBS_PROTO)

# The simulator: the real cores of all three programs in one process, virtual time, a seeded world. tests/sim/README.md.
SIM_SOURCES = $(wildcard tests/sim/*.c)
SIM_OBJECTS = $(patsubst %.c,$(BUILD)/obj/%.o,$(SIM_SOURCES))
SIM = $(BUILD)/sim/sim
$(SIM): $(SIM_OBJECTS) $(SIM_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ -lhiredis -lz $(LDLIBS_PROTO)

# Mistakes on purpose: the same simulator with a few functions replaced (__wrap_...) by those of tests/sim/planted.
SIM_PLANTED = $(patsubst tests/sim/planted/%.c,$(BUILD)/sim/planted-%,$(wildcard tests/sim/planted/*.c))
$(BUILD)/sim/planted-%: $(BUILD)/obj/tests/sim/planted/%.o $(SIM_OBJECTS) $(SIM_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $(patsubst %,-Wl$(comma)--wrap=%,$(sort $(shell grep -o '__wrap_[a-z_]*' tests/sim/planted/$*.c | sed s/__wrap_//))) \
	    $^ -o $@ -lhiredis -lz $(LDLIBS_PROTO)

# The same of stream mode, and its mistakes.
STREAM_OBJECTS = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/sim/stream/*.c) tests/sim/events.c)
STREAM_LIBS = $(PROTOTYPE) $(PROTO) $(COMMON)
STREAM_SIM = $(BUILD)/sim/stream
$(STREAM_SIM): $(STREAM_OBJECTS) $(STREAM_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $^ -o $@ -lhiredis -lz $(LDLIBS_PROTO)
STREAM_PLANTED = $(patsubst tests/sim/stream/planted/%.c,$(BUILD)/sim/stream-planted-%,$(wildcard tests/sim/stream/planted/*.c))
$(BUILD)/sim/stream-planted-%: $(BUILD)/obj/tests/sim/stream/planted/%.o $(STREAM_OBJECTS) $(STREAM_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $(patsubst %,-Wl$(comma)--wrap=%,$(sort $(shell grep -o '__wrap_[a-z_]*' tests/sim/stream/planted/$*.c | sed s/__wrap_//))) \
	    $^ -o $@ -lhiredis -lz $(LDLIBS_PROTO)

PY_TESTS = $(wildcard tests/py/test_*.py)
E2E_TESTS = $(wildcard tests/e2e/test_*)
PREFIX ?= /usr/local

.PHONY: deps run test unit chaos fuzz sim asan tsan coverage bench cost capacity recovery format lint man install uninstall
.PHONY: compile_commands.json clean
deps: ## install the Debian packages that are missing (with sudo when not root)
	deploy/install-deps

run: deps ## the main job: build, train on Fashion-MNIST with two workers, decoupled and then joint, and compare
	$(MAKE) -j$(JOBS) all
	$(BUILD)/bin/decant train --config deploy/configs/fashion-mnist.ini --run fashion-mnist --out runs/fashion-mnist --resume --no-eval
	$(BUILD)/bin/decant train --config deploy/configs/joint-carp.ini --run joint-carp --out runs/joint-carp --resume --no-eval
	$(BUILD)/bin/decant eval runs/fashion-mnist runs/joint-carp --references

PRESET ?= default
.PHONY: reproduce
reproduce: deps ## joint against decoupled: a grid of runs into results/, 26 runs, 45 minutes; PRESET=quick 6 shorter ones, seeds 90, scripts 36, full 126 longer ones
	deploy/install-deps --data
	$(MAKE) -j$(JOBS) all
	$(PYTHON) examples/reproduce/reproduce --preset $(PRESET) --programs $(BUILD)/bin

test: ## every test: units, finite differences, fuzzing, simulation, wire, Redis, processes end to end, sanitizers
	deploy/install-deps --test
	$(MAKE) -j$(JOBS) all $(UNIT) $(UNIT64) $(FUZZ) $(SIM) $(SIM_PLANTED) $(STREAM_SIM) $(STREAM_PLANTED) $(BUILD)/bench/bench_load
	$(MAKE) -j$(JOBS) BUILD=build-asan SANITIZE=address,undefined asan-programs
	$(MAKE) -j$(JOBS) BUILD=build-tsan SANITIZE=thread all
	BUILD=$(BUILD) PYTHON=$(PYTHON) tests/run $(BUILD)/logs $(UNIT) $(UNIT64) $(FUZZ) $(SIM) $(STREAM_SIM) tests/sim/test_planted $(PY_TESTS) $(E2E_TESTS) $(ASAN_TESTS)

unit: $(UNIT) $(UNIT64) ## units and finite differences only
	BUILD=$(BUILD) tests/run $(BUILD)/logs $(UNIT) $(UNIT64)

chaos: all ## kills real processes fifty times during one training and compares the bytes
	BUILD=$(BUILD) $(PYTHON) tests/e2e/chaos.py --faults 50 --steps 5000

SOAK_MINUTES ?= 60
.PHONY: soak
soak: all ## a real run for SOAK_MINUTES=60 in which nothing is left alone; memory and descriptors of the servers stay flat
	BUILD=$(BUILD) $(PYTHON) tests/e2e/soak.py --minutes $(SOAK_MINUTES)

.PHONY: test-docker
test-docker: $(BINS) ## the containers: builds the image, then scales, kills, stops and finishes a run with docker-compose (as root)
	deploy/install-deps --docker
	BUILD=$(BUILD) TEST_SECONDS=3600 tests/run $(BUILD)/logs tests/docker/test_compose.sh

# Warnings are the other build's affair: clang has some of its own.
FUZZ_CC ?= $(shell command -v clang-14 || command -v clang)
FUZZ_SECONDS ?= 60
FUZZ_JOBS ?= $(JOBS)
.PHONY: guided-programs fuzz-corpus
guided-programs: $(GUIDED)
fuzz: $(FUZZ) ## the fuzzers; where clang is installed by libFuzzer too, FUZZ_SECONDS=60 for each, FUZZ_NAMES="msg image ..."
	tests/run $(BUILD)/logs $(FUZZ)
	@if tests/fuzz/guided can $(FUZZ_CC); then \
	    $(MAKE) -j$(JOBS) BUILD=build-fuzz CC=$(FUZZ_CC) WARNINGS= SANITIZE=fuzzer-no-link,address,undefined guided-programs; \
	else echo "no clang with libFuzzer (deploy/install-deps --fuzz): the mutations above are all"; fi
	@! tests/fuzz/guided can $(FUZZ_CC) || \
	    SEEDERS=$(BUILD)/fuzz tests/fuzz/guided run build-fuzz $(FUZZ_SECONDS) $(FUZZ_JOBS) $(FUZZ_NAMES)

fuzz-corpus: ## keep the smallest inputs that `make fuzz` found in tests/fuzz/corpus: those that cover what the others do not
	tests/fuzz/guided keep build-fuzz $(FUZZ_NAMES)

SEEDS ?= 1..10000
sim: $(SIM) $(STREAM_SIM) ## simulated clusters: SEED=N replays one with its trace, SEEDS=A..B runs many
	$(if $(SEED),$(SIM) --seed $(SEED) --verbose,$(SIM) --seeds $(SEEDS) --jobs $(JOBS))

# The units, fuzzers and a few hundred simulations again under AddressSanitizer and UndefinedBehaviorSanitizer (leaks are failures).
ASAN_TESTS = $(patsubst $(BUILD)/%,build-asan/%,$(UNIT) $(FUZZ) $(SIM) $(STREAM_SIM))
.PHONY: asan-programs
asan-programs: $(UNIT) $(FUZZ) $(SIM) $(STREAM_SIM) $(BINS)
asan: ## units, fuzzers and the simulator under ASan + UBSan
	$(MAKE) -j$(JOBS) BUILD=build-asan SANITIZE=address,undefined asan-programs
	BUILD=build-asan tests/run build-asan/logs $(ASAN_TESTS)

tsan: ## units and a training run under ThreadSanitizer
	TSAN_OPTIONS=suppressions=tests/tsan.supp $(MAKE) -j$(JOBS) BUILD=build-tsan SANITIZE=thread all unit
	tests/e2e/test_tsan.sh

# Counters in the inner loops make the network twenty times slower, so only tests that train little take part; and what
# processes that are killed had executed is lost. The figure is therefore a little too low.
COVERED_TESTS = $(addprefix tests/e2e/test_,cli.sh cli_more.sh) $(addprefix tests/py/test_,wire.py redis.py keys.py)
.PHONY: coverage-programs
coverage-programs: all $(UNIT) $(SIM) $(STREAM_SIM)
coverage: ## line coverage of units, 1000 simulated clusters and some tests of real processes, in build-coverage
	deploy/install-deps --test --coverage
	find build-coverage -name '*.gcda' -delete 2>/dev/null || true
	$(MAKE) -j$(JOBS) BUILD=build-coverage COVERAGE=1 coverage-programs
	BUILD=build-coverage PYTHON=$(PYTHON) tests/run build-coverage/logs $(UNIT:$(BUILD)/%=build-coverage/%) $(COVERED_TESTS)
	build-coverage/sim/sim --seeds 1..1000 --jobs $(JOBS)
	build-coverage/sim/stream --seeds 1..300
	gcovr --root . --object-directory build-coverage/obj --filter '(common|proto|server|worker|cli)/' \
	    --exclude-unreachable-branches --print-summary --txt build-coverage/coverage.txt --sort-percentage

bench: $(BINS) $(BENCH) ## measure against peers in the same sitting
	deploy/install-deps --bench
	BUILD=$(BUILD) PYTHON=$(PYTHON) tests/bench/compare.sh
	$(BUILD)/bench/bench_parameter
	$(BUILD)/bench/bench_prototype
	$(BUILD)/bench/bench_diagnostics 1
	$(BUILD)/bench/bench_large
	BUILD=$(BUILD) $(PYTHON) tests/bench/bench_mirror.py
	BUILD=$(BUILD) $(PYTHON) tests/bench/training.py
	$(MAKE) cost capacity recovery

.PHONY: bench-mixture
bench-mixture: $(BUILD)/bench/bench_mixture $(BUILD)/bench/bench_shortcuts ## one EM iteration against scikit-learn, Armadillo and PyTorch, as a table and JSON
	deploy/install-deps --bench
	BUILD=$(BUILD) $(PYTHON) tests/bench/bench_mixture.py

cost: all $(BUILD)/bench/bench_slots ## what leases, checkpoints and lock-step cost, and how two workers scale
	BUILD=$(BUILD) $(PYTHON) tests/bench/cost.py

capacity: all $(BUILD)/bench/bench_load ## load the servers with 8, 32 and 128 synthetic workers until they fall behind
	$(BUILD)/bench/bench_load --programs $(BUILD)/bin

recovery: all ## kill processes of a run and measure until it is back at its rate
	BUILD=$(BUILD) $(PYTHON) tests/bench/recovery.py

# What the tree promises about itself and no test program can hold; half a minute beside the build. `make -k lint` goes on
# after a finding. The arrows are read off the objects of the build, so that a call is seen as well as an include.
LINTED = common proto server worker cli
LINTS = lint-format lint-cppcheck lint-tidy lint-arrows lint-includes lint-names
.PHONY: $(LINTS)
lint: $(LINTS) ## formatting, clang-tidy, cppcheck, the arrows between rooms and files, includes that nothing needs, names
lint-format: # clang-format leaves comments alone, however long their lines are
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror
	@! git ls-files '*.c' '*.h' | LC_ALL=C.UTF-8 xargs grep -nE '.{121,}'
lint-cppcheck:
	@cppcheck -j$(JOBS) --quiet --error-exitcode=1 --enable=warning,portability --suppress=invalidPointerCast --inline-suppr -I. $(LINTED)
lint-tidy:
	@git ls-files $(LINTED:%='%/*.c') | xargs -P$(JOBS) -n12 sh -c 'clang-tidy --quiet "$$@" -- -I. -D_GNU_SOURCE -std=gnu17 2>/dev/null' _
lint-arrows: all
	@tests/lint/arrows --objects $(BUILD)/obj
lint-includes:
	@tests/lint/includes
lint-names:
	@tests/lint/names

man: all ## write docs/man/*.1 from what the programs say with --help
	docs/man/generate $(BUILD)/bin docs/man

install: all ## copy binaries, manual pages and bash completion below $(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BINS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	$(BUILD)/bin/decant completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/decant

uninstall: ## remove what `make install` copied below $(PREFIX)
	rm -f $(BINS:$(BUILD)/%=$(DESTDIR)$(PREFIX)/%)
	rm -f $(patsubst docs/man/%,$(DESTDIR)$(PREFIX)/share/man/man1/%,$(wildcard docs/man/*.1))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/decant

compile_commands.json: ## how each file is compiled, for editors and clang's tools
	@{ echo '['; for file in $$(git ls-files '*.c'); do \
	    printf '{"directory": "%s", "file": "%s", "command": "%s"},\n' '$(CURDIR)' "$$file" \
	        '$(CC) -I. -D_GNU_SOURCE $(CFLAGS) -c '"$$file"; done | sed '$$ s/,$$//'; echo ']'; } >$@

format: ## clang-format every C file
	clang-format -i $(shell git ls-files '*.c' '*.h')

clean: ## remove everything built
	rm -rf build build-asan build-tsan build-coverage build-fuzz compile_commands.json

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
