/* SPDX-License-Identifier: ISC */
/*
 * A box's life: made of kernel, machine, devices and file tree; started; taken apart. What happens
 * in between is in run.c.
 *
 * Order: the machine before its devices, the devices before the kernel is loaded (its tables list
 * them). The other way round at the end: streams, machine stopped, devices, machine.
 *
 * Threads: all of the monitor's own code runs on the loop's thread, but for the serial port (vCPU
 * threads write to the tail), the file server (its queues' threads report denials) and the pumps of
 * the standard streams.
 */
#include "box/box.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/util.h"
#include "box/box_impl.h"
#include "box/etc.h"

static int make_machine_id(char text[33], struct hk_err *err)
{
	uint8_t bytes[16];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
		return hk_fail(err, EIO, "random numbers");
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		hk_fmt(text + 2 * i, 3, "%02x", bytes[i]);
	}
	return 0;
}

static int open_kernel(struct hk_box *box, struct hk_err *err)
{
	struct hk_kernel_store *store;
	struct hk_kernel_info info;
	size_t guest_len;
	const void *guest = hk_guest_blob(&guest_len);
	int r = hk_kernel_store_open(NULL, &store, err);

	if (r < 0) {
		return r;
	}
	r = hk_kernel_resolve(store, box->config.kernel, NULL, NULL, &info, err);
	if (r == 0) {
		r = hk_kernel_prepare(store, info.id, guest, guest_len, &box->kernel, err);
	}
	hk_kernel_store_close(store);
	return r;
}

static int create_machine(struct hk_box *box, struct hk_err *err)
{
	const struct hk_box_config *config = &box->config;

	return hk_machine_create(
		&(struct hk_machine_config){
			.loop = config->loop,
			.engine = config->engine,
			.cpu = config->cpu,
			.vcpu_count = config->vcpu_count,
			.ram_bytes = config->memory_bytes,
			.owner = &box->machine_owner,
		},
		&box->machine, err);
}

/*
 * The serial port shows what goes wrong, from the first line of the kernel on; the rest is quiet,
 * as each byte is an exit. panic=-1: reset at once, that is what ends the box. reboot=a: by the
 * ACPI register; of its own accord Linux takes a machine with reduced ACPI for one with EFI.
 * mitigations=off: as the CPU model's "not affected" bits, for the rest (see engine/cpuid.c); its
 * retpolines and thunks for returns would be a fifth of all that the kernel does on a CPU in
 * software.
 */
static int load(struct hk_box *box, struct hk_err *err)
{
	char cmdline[256];

	hk_fmt(cmdline, sizeof(cmdline),
		"console=ttyS0 %s panic=-1 reboot=a tsc=reliable no_timer_check cryptomgr.notests "
		"random.trust_cpu=on mitigations=off",
		box->config.verbose ? "" : "quiet");
	return hk_machine_load(box->machine,
		&(struct hk_boot){
			.vmlinux_fd = box->kernel.vmlinux_fd,
			.initramfs_fd = box->kernel.initramfs_fd,
			.cmdline = cmdline,
			.pvh = box->kernel.info.pvh,
		},
		err);
}

static int create(struct hk_box *box, struct hk_err *err)
{
	const struct hk_box_config *config = &box->config;
	uint64_t host_memory_bytes;
	char machine_id[33];
	int r;

	hk_box_host_memory(&host_memory_bytes, NULL);
	if ((r = hk_box_check(config, host_memory_bytes, err)) < 0 ||
		(r = make_machine_id(machine_id, err)) < 0 ||
		(r = hk_layout_make(&box->layout, config, "", machine_id, err)) < 0) {
		return r;
	}
	return hk_box_policy_make(&box->policy, &box->layout, err);
}

int hk_box_create(const struct hk_box_config *config, struct hk_box **ret_box, struct hk_err *err)
{
	struct hk_box *box;
	int r;

	if (hk_new(box) == NULL) {
		return hk_fail(err, ENOMEM, "box");
	}
	box->config = *config;
	box->kernel.vmlinux_fd = -1;
	box->kernel.initramfs_fd = -1;
	box->result.err = HK_ERR_INIT;
	box->rows = config->rows;
	box->cols = config->cols;
	hk_denials_init(&box->denials, config->owner);
	hk_tail_init(&box->tail);
	hk_box_init_handlers(box);
	hk_channel_init(&box->channel, config->loop, &box->channel_owner);
	r = create(box, err);
	if (r < 0) {
		hk_box_destroy(box);
		return r;
	}
	*ret_box = box;
	return 0;
}

int hk_box_build(struct hk_box *box, struct hk_err *err)
{
	const struct hk_box_config *config = &box->config;
	int r;

	if ((r = create_machine(box, err)) < 0 || (r = open_kernel(box, err)) < 0 ||
		(r = hk_devices_create(&box->devices, box->machine, &box->layout, &box->policy,
			 &box->denials.owner, err)) < 0 ||
		(r = load(box, err)) < 0) {
		return r;
	}
	if (hk_vsock_listen(box->devices.vsock, &box->control_listener) < 0 ||
		hk_vsock_listen(box->devices.vsock, &box->stream_listener) < 0) {
		return hk_fail(err, ENOMEM, "vsock");
	}
	r = hk_event_add(config->loop, &box->console_event, err);
	if (r < 0) {
		return r;
	}
	return hk_stdio_create(config->loop, &box->stdio_owner, HK_SESSION_COMMAND, config->tty,
		config->stdin_fd, config->stdout_fd, config->stderr_fd, &box->stdio, err);
}

/* All that has a path is open; no thread runs yet. */
static int confine(struct hk_box *box, struct hk_err *err)
{
	struct hk_confine_tree trees[2 * HK_LAYOUT_MAX_EXPORTS];
	unsigned count = 0;

	for (unsigned i = 0; i < box->layout.export_count; i++) {
		const struct hk_fuse_export *export = &box->layout.exports[i];
		const char *layer = box->layout.layers[i];

		trees[count++] = (struct hk_confine_tree){
			.path = export->path,
			/* With rules of copy-on-write, the rest goes to the directory itself. */
			.writable = !export->read_only &&
				(layer == NULL || box->policy.cows[i].rules != NULL),
			.is_public = export->public_only,
		};
		if (layer != NULL) {
			trees[count++] = (struct hk_confine_tree){.path = layer, .writable = true};
		}
	}
	return hk_confine(
		&(struct hk_confine_needs){
			.trees = trees,
			.tree_count = count,
			.has_disks = box->config.disk_count > 0,
			.nodev = box->devices.nodev,
		},
		box->confinement, err);
}

int hk_box_start(struct hk_box *box, struct hk_err *err)
{
	int r = confine(box, err);

	if (r == 0) {
		r = hk_box_policy_start(&box->policy, err);
	}
	if (r == 0) {
		r = hk_machine_start(box->machine, err);
	}
	if (r == 0) {
		hk_box_run_started(box);
	}
	return r;
}

void hk_box_destroy(struct hk_box *box)
{
	if (box == NULL) {
		return;
	}
	hk_box_disarm(box);
	hk_stdio_destroy(box->stdio);
	/* Devices go when no vCPU runs, and before the bus that they are on. */
	if (box->machine != NULL) {
		hk_machine_halt(box->machine);
	}
	hk_devices_destroy(&box->devices);
	hk_machine_destroy(box->machine);
	hk_event_remove(&box->console_event);
	hk_channel_finish(&box->channel);
	hk_kernel_finish(&box->kernel);
	hk_box_policy_finish(&box->policy);
	hk_layout_finish(&box->layout);
	hk_denials_finish(&box->denials);
	hk_tail_finish(&box->tail);
	free(box);
}

const struct hk_box_result *hk_box_result(const struct hk_box *box)
{
	return &box->result;
}

bool hk_box_asks(const struct hk_box *box)
{
	return box->policy.rules != NULL && hk_rules_any(box->policy.rules, HK_VERDICT_ASK);
}

struct hk_audit *hk_box_audit(struct hk_box *box)
{
	return box->policy.audit;
}

bool hk_box_console_line(struct hk_box *box, unsigned back, char *line, size_t size)
{
	return hk_tail_line(&box->tail, back, line, size);
}

bool hk_box_denial(struct hk_box *box, unsigned index, char *line, size_t size)
{
	return hk_denials_line(&box->denials, &box->layout, index, line, size);
}

uint64_t hk_box_denial_count(struct hk_box *box)
{
	return hk_denials_total(&box->denials);
}
