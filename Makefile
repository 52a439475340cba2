# The commands of the project. `make run` and `make check` do everything from a fresh Debian 12 on.

BUILD := build

.PHONY: run check build bench deps kernel format clean

run: build kernel
	@echo "hako run -- uname -a"
	@$(BUILD)/hako run -- uname -a

check: deps
	tests/check

build: deps
	@tools/setup $(BUILD)
	@ninja -C $(BUILD)

bench: build kernel
	bench/run

deps:
	@tools/install-packages packages.txt

kernel: build
	@$(BUILD)/hako kernel show >/dev/null 2>&1 || $(BUILD)/hako kernel fetch

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf $(BUILD) $(BUILD)-*
