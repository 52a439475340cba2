# The commands of the project. `make run` and `make check` do everything from a fresh Debian 12 on.

BUILD := build
RIG := tests/rig/run

.PHONY: run check build bench deps kernel format clean

# Until there is an engine for machines without KVM, the box runs in the rig: a virtual
# machine with KVM inside, emulated by QEMU.
run: build kernel
	@if $(BUILD)/hako doctor >/dev/null 2>&1; then \
		echo "make run: hako run -- uname -a"; \
		$(BUILD)/hako run -- uname -a; \
	else \
		echo "make run: this machine has no usable KVM; running in the rig: hako run -- uname -a"; \
		$(RIG) -T -- $(CURDIR)/$(BUILD)/hako run -- uname -a; \
	fi

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
