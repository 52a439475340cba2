/* SPDX-License-Identifier: ISC */
/* See vm.h. A saved machine is a file: lengths, output, state stream, then (address, page) pairs.
 */
#include "vm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "machine/layout.h"

enum {
	INITRAMFS_BYTES = 5000,
	QUEUE_NOTIFY = 0x50,
	REG_WRITES = 0,
	REG_HEARD = 4,
};

/* --- the echo device --------------------------------------------------------- */

static void answer(struct vm *vm)
{
	uint64_t one = 1;

	__atomic_add_fetch(&vm->echo.heard, 1, __ATOMIC_RELEASE);
	if (vm->echo.irqfd) {
		(void)!write(vm->echo.answer_fd, &one, sizeof(one));
		return;
	}
	hk_engine_irq(hk_machine_engine(vm->machine), vm->echo.slot.gsi, true);
	hk_engine_irq(hk_machine_engine(vm->machine), vm->echo.slot.gsi, false);
}

static void bell_rang(struct hk_event *event)
{
	answer(hk_container_of(event, struct vm_doorbell, event)->vm);
}

static uint64_t echo_read(struct hk_region *region, uint64_t offset, unsigned len)
{
	struct vm_echo *echo = hk_container_of(region, struct vm_echo, region);

	switch (offset) {
	case REG_WRITES:
		return __atomic_load_n(&echo->writes, __ATOMIC_ACQUIRE);
	case REG_HEARD:
		return __atomic_load_n(&echo->heard, __ATOMIC_ACQUIRE);
	default:
		return 0;
	}
}

static void echo_write(struct hk_region *region, uint64_t offset, unsigned len, uint64_t value)
{
	struct vm_echo *echo = hk_container_of(region, struct vm_echo, region);

	if (offset == QUEUE_NOTIFY && value < VM_DOORBELLS && !echo->doorbells) {
		hk_event_signal(&echo->bells[value].event);
		return;
	}
	__atomic_add_fetch(&echo->writes, 1, __ATOMIC_RELEASE);
}

static const struct hk_region_ops echo_ops = {
	.name = "echo",
	.read = echo_read,
	.write = echo_write,
};

static int echo_connect(struct vm *vm, struct hk_err *err)
{
	struct hk_engine *engine = hk_machine_engine(vm->machine);
	struct vm_echo *echo = &vm->echo;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < VM_DOORBELLS; i++) {
		r = hk_engine_doorbell(engine, echo->slot.gpa + QUEUE_NOTIFY, i,
			echo->bells[i].event.source.fd, true);
	}
	echo->doorbells = r == 0;
	if (r < 0 && r != -ENOTSUP) {
		return hk_fail(err, -r, "doorbell");
	}
	r = hk_engine_irqfd(engine, echo->slot.gsi, echo->answer_fd, true);
	echo->irqfd = r == 0;
	return r < 0 && r != -ENOTSUP ? hk_fail(err, -r, "irqfd") : 0;
}

static int echo_create(struct vm *vm, struct hk_err *err)
{
	struct vm_echo *echo = &vm->echo;
	int r = hk_machine_slot(vm->machine, &echo->slot, err);

	if (r < 0) {
		return r;
	}
	echo->region = (struct hk_region){
		.ops = &echo_ops,
		.space = HK_SPACE_MMIO,
		.base = echo->slot.gpa,
		.size = echo->slot.len_bytes,
	};
	r = hk_bus_add(hk_machine_bus(vm->machine), &echo->region, err);
	for (unsigned i = 0; r == 0 && i < VM_DOORBELLS; i++) {
		echo->bells[i] = (struct vm_doorbell){.event = {.raised = bell_rang}, .vm = vm};
		r = hk_event_add(vm->loop, &echo->bells[i].event, err);
	}
	if (r < 0) {
		return r;
	}
	echo->answer_fd = eventfd(0, EFD_CLOEXEC);
	return echo->answer_fd < 0 ? hk_fail(err, errno, "eventfd") : echo_connect(vm, err);
}

static void echo_destroy(struct vm_echo *echo)
{
	for (unsigned i = 0; i < VM_DOORBELLS; i++) {
		hk_event_remove(&echo->bells[i].event);
	}
	hk_close(&echo->answer_fd);
}

/* --- life ------------------------------------------------------------------------ */

static void on_serial(struct hk_machine_owner *owner, const uint8_t *bytes, unsigned len)
{
	struct vm *vm = hk_container_of(owner, struct vm, owner);

	/* One byte at a time, under the serial port's lock. */
	for (unsigned i = 0; i < len && vm->output_len < VM_OUTPUT_MAX - 1; i++) {
		vm->output[vm->output_len] = (char)bytes[i];
		__atomic_store_n(&vm->output_len, vm->output_len + 1, __ATOMIC_RELEASE);
	}
}

static void on_stopped(struct hk_machine_owner *owner, enum hk_stop why)
{
	struct vm *vm = hk_container_of(owner, struct vm, owner);

	vm->stopped = true;
	vm->why = why;
}

int vm_create(struct vm *vm, const struct vm_config *config, struct hk_err *err)
{
	*vm = (struct vm){
		.owner = {.stopped = on_stopped, .serial = on_serial},
		.config = *config,
		.echo.answer_fd = -1,
	};

	struct hk_machine_config machine = {
		.engine = config->engine,
		.vcpu_count = config->cpus,
		.ram_bytes = config->ram_bytes,
		.owner = &vm->owner,
	};
	int r = hk_loop_create(&vm->loop, err);

	machine.loop = vm->loop;
	r = r < 0 ? r : hk_machine_create(&machine, &vm->machine, err);
	return r < 0 ? r : echo_create(vm, err);
}

static int make_initramfs(void)
{
	autoclose int fd = hk_memfd("initramfs", INITRAMFS_BYTES);

	if (fd < 0 || pwrite(fd, "i", 1, 0) != 1 || pwrite(fd, "I", 1, INITRAMFS_BYTES - 1) != 1) {
		return -EIO;
	}
	return take_fd(&fd);
}

int vm_load(struct vm *vm, struct hk_err *err)
{
	const struct vm_config *config = &vm->config;
	autoclose int guest = hk_open(AT_FDCWD, config->guest, O_RDONLY, 0);
	autoclose int initramfs = config->initramfs ? make_initramfs() : -1;
	char cmdline[512];

	if (guest < 0) {
		return hk_fail(err, -guest, "%s", config->guest);
	}
	hk_fmt(cmdline, sizeof(cmdline), "cpus=%u memory=%llu initramfs=%d now=%lld %s",
		config->cpus, (unsigned long long)(config->ram_bytes / HK_MIB),
		config->initramfs ? INITRAMFS_BYTES : 0, (long long)time(NULL),
		config->options == NULL ? "" : config->options);

	struct hk_boot boot = {
		.vmlinux_fd = guest,
		.initramfs_fd = initramfs,
		.cmdline = cmdline,
		.pvh = config->pvh,
	};
	return hk_machine_load(vm->machine, &boot, err);
}

int vm_start(struct vm *vm, const struct vm_config *config, struct hk_err *err)
{
	int r;

	if ((r = vm_create(vm, config, err)) < 0 || (r = vm_load(vm, err)) < 0) {
		return r;
	}
	return hk_machine_start(vm->machine, err);
}

void vm_destroy(struct vm *vm)
{
	hk_machine_destroy(vm->machine);
	if (vm->loop != NULL) {
		echo_destroy(&vm->echo);
	}
	hk_loop_destroy(vm->loop);
	vm->machine = NULL;
	vm->loop = NULL;
}

void vm_run_for(struct vm *vm, uint64_t ns)
{
	uint64_t end = hk_now_ns() + ns;

	while (!vm->stopped) {
		uint64_t now = hk_now_ns();

		if (now >= end) {
			return;
		}
		hk_loop_run_once(vm->loop, (int)((end - now) / HK_NS_PER_MS) + 1);
	}
}

bool vm_wait(struct vm *vm, unsigned timeout_ms)
{
	vm_run_for(vm, timeout_ms * HK_NS_PER_MS);
	return vm->stopped;
}

int vm_require(const char *engine)
{
	struct hk_engine_probe probes[8];
	unsigned count = hk_engine_probe_all(probes, HK_ARRAY_SIZE(probes));
	const char *must_work = getenv("MUST_WORK");
	const char *reason = "no such engine";

	for (unsigned i = 0; i < count; i++) {
		if (engine != NULL && strncmp(engine, probes[i].name, strcspn(engine, ",")) != 0) {
			continue;
		}
		if (probes[i].usable) {
			return 0;
		}
		reason = probes[i].reason;
	}
	fprintf(stderr, "cannot run: %s\n", reason);
	return must_work != NULL && strcmp(must_work, "1") == 0 ? 1 : 77;
}

/* --- save and restore --------------------------------------------------------------- */

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, HK_PAGE_SIZE - 1) == 0;
}

/* Pages of the RAM file that hold anything, as (offset, bytes). */
static int write_ram(const struct hk_mem *mem, int fd)
{
	for (off_t at = lseek(mem->fd, 0, SEEK_DATA); at >= 0; at = lseek(mem->fd, at, SEEK_DATA)) {
		off_t end = lseek(mem->fd, at, SEEK_HOLE);

		for (; at < end; at += HK_PAGE_SIZE) {
			uint64_t offset = (uint64_t)at;
			int r;

			if (is_zero(mem->ram + at)) {
				continue;
			}
			if ((r = hk_write_full(fd, &offset, sizeof(offset))) < 0 ||
				(r = hk_write_full(fd, mem->ram + at, HK_PAGE_SIZE)) < 0) {
				return r;
			}
		}
	}
	return 0;
}

int vm_save(struct vm *vm, const char *path, struct hk_err *err)
{
	autoclose int fd = hk_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct hk_writer w = {0};
	int r = fd < 0 ? hk_fail(err, -fd, "%s", path) : hk_machine_save(vm->machine, &w, err);

	if (r == 0) {
		uint64_t head[2] = {vm->output_len, w.len};

		if ((r = hk_write_full(fd, head, sizeof(head))) < 0 ||
			(r = hk_write_full(fd, vm->output, vm->output_len)) < 0 ||
			(r = hk_write_full(fd, w.data, w.len)) < 0 ||
			(r = write_ram(hk_machine_mem(vm->machine), fd)) < 0) {
			hk_fail(err, -r, "%s", path);
		}
	}
	hk_writer_finish(&w);
	return r;
}

int vm_restore(struct vm *vm, const char *path, struct hk_err *err)
{
	struct hk_mem *mem = hk_machine_mem(vm->machine);
	autofree void *data = NULL;
	uint64_t head[2];
	size_t len;
	int r = hk_read_file(path, 256 * HK_MIB, &data, &len, err);

	if (r < 0) {
		return r;
	}
	memcpy(head, data, sizeof(head));

	const uint8_t *at = (const uint8_t *)data + sizeof(head);
	const uint8_t *end = (const uint8_t *)data + len;
	struct hk_reader reader;

	vm->output_len = (unsigned)head[0];
	memcpy(vm->output, at, head[0]);
	at += head[0];
	hk_reader_init(&reader, at, head[1]);
	at += head[1];
	for (; at < end; at += sizeof(uint64_t) + HK_PAGE_SIZE) {
		uint64_t offset;

		memcpy(&offset, at, sizeof(offset));
		memcpy(mem->ram + offset, at + sizeof(offset), HK_PAGE_SIZE);
	}
	return hk_machine_restore(vm->machine, &reader, err);
}
