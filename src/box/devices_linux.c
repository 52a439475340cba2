/* SPDX-License-Identifier: ISC */
/*
 * The devices of a box: see devices.h.
 *
 * Theory: a slot's place is told to the guest by the DSDT in the order of slots, and that is the
 * order in which it names disks.
 */
#include "box/devices.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/backend.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/fs.h"
#include "virtio/rng.h"

enum { MAX_FS_QUEUES = 8, MAX_DISK_QUEUES = 4 };

/*
 * Files that are mapped at one time: as much as the box has memory, within these. The guest keeps
 * 64 bytes for each of its pages. The least is what Linux adds at a time.
 */
#define WINDOW_MIN (128 * HK_MIB)
#define WINDOW_MAX HK_GIB

/* How long a guest waits that uses what is gone of a file; see hk_fuse_server_mend(). */
#define MEND_EVERY_NS HK_NS_PER_SEC

/* The device's own from here on: found by hk_devices_destroy() also if this fails. */
static int attach(struct hk_devices *devices, struct hk_machine *machine, struct hk_virtio *dev,
	struct hk_err *err)
{
	unsigned i = devices->count++;

	devices->devs[i] = dev;
	return hk_virtio_mmio_attach(machine, dev, &devices->transports[i], err);
}

static bool mend(struct hk_mem_mender *mender)
{
	struct hk_devices *devices = hk_container_of(mender, struct hk_devices, mender);

	return hk_fuse_server_mend(devices->server);
}

static void mend_now_and_then(struct hk_timer *timer)
{
	struct hk_devices *devices = hk_container_of(timer, struct hk_devices, mend_timer);

	hk_fuse_server_mend(devices->server);
	hk_timer_arm(devices->loop, timer, hk_now_ns() + MEND_EVERY_NS);
}

/*
 * The window for shares that are mapped. *@ret_window stays NULL where there are none, or can be
 * none.
 */
static int add_window(struct hk_devices *devices, struct hk_machine *machine,
	const struct hk_box_config *config, const struct hk_mem_region **ret_window,
	struct hk_err *err)
{
	struct hk_mem *mem = hk_machine_mem(machine);
	uint64_t len = HK_MIN(hk_align_up(mem->ram_bytes, WINDOW_MIN), WINDOW_MAX);
	const struct hk_share *wants = NULL;
	const struct hk_mem_region *window;
	int r;

	for (unsigned i = 0; i < config->share_count; i++) {
		const struct hk_share *share = &config->shares[i];

		if (share->dax == HK_SHARE_DAX_YES ||
			(share->dax == HK_SHARE_DAX_IF_POSSIBLE && wants == NULL)) {
			wants = share;
		}
	}
	if (wants == NULL) {
		return 0;
	}
	r = hk_machine_add_window(machine, len, &window, err);
	if (r == -ENOTSUP && wants->dax == HK_SHARE_DAX_IF_POSSIBLE) {
		*err = HK_ERR_INIT;
		return 0;
	}
	if (r == 0) {
		r = hk_fuse_server_set_window(
			devices->server, window->host, window->len_bytes, err);
	}
	if (r < 0) {
		hk_err_hint(err, "leave ':dax' out: then the box caches copies of the files");
		return hk_err_ctx(err, "share '%s': dax", wants->host);
	}
	devices->mender.mend = mend;
	mem->mender = &devices->mender;
	devices->loop = hk_machine_loop(machine);
	devices->mend_timer.fire = mend_now_and_then;
	hk_timer_arm(devices->loop, &devices->mend_timer, hk_now_ns() + MEND_EVERY_NS);
	*ret_window = window;
	return 0;
}

/*
 * Root's files for the box's root, who may make device nodes there (confine.h): only where none of
 * all exports leads to one that works. Copy-on-write opens its directories itself.
 */
static void open_nodev(struct hk_devices *devices, struct hk_fuse_export *export)
{
	struct hk_err err = HK_ERR_INIT;

	devices->nodev = devices->nodev && export->backend == NULL &&
		hk_host_open_nodev(export->path, &export->backend, &err) == 0;
}

static int add_fs(struct hk_devices *devices, struct hk_machine *machine,
	const struct hk_layout *layout, struct hk_box_policy *policy, struct hk_fuse_owner *owner,
	struct hk_err *err)
{
	const struct hk_mem_region *window = NULL;
	struct hk_virtio *dev;
	int r = hk_fuse_server_create(owner, &devices->server, err);

	devices->nodev = layout->user.uid == 0 && geteuid() == 0 && layout->config->policy == NULL;
	for (unsigned i = 0; r == 0 && i < layout->export_count; i++) {
		struct hk_fuse_export export = layout->exports[i];

		r = hk_box_policy_open(policy, layout, i, &export.backend, err);
		if (r == 0) {
			/* Where writing copies a file, the copy is not what was mapped. */
			export.dax = export.dax && export.backend == NULL;
			open_nodev(devices, &export);
			r = hk_fuse_server_export(devices->server, &export, err);
		}
	}
	if (r == 0) {
		r = add_window(devices, machine, layout->config, &window, err);
	}
	if (r == 0) {
		r = hk_fs_create(
			&(struct hk_fs_config){
				.server = devices->server,
				.tag = HK_BOX_FS_TAG,
				.request_queues = HK_MIN(layout->config->vcpu_count, MAX_FS_QUEUES),
				.window = window,
			},
			&dev, err);
	}
	return r == 0 ? attach(devices, machine, dev, err) : r;
}

static int add_vsock(struct hk_devices *devices, struct hk_machine *machine, struct hk_err *err)
{
	struct hk_virtio *dev;
	int r = hk_vsock_create(hk_machine_loop(machine), &devices->vsock, &dev, err);

	return r == 0 ? attach(devices, machine, dev, err) : r;
}

static void fill_random(void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len > 0) {
		/* seccomp: getrandom */
		ssize_t n = getrandom(at, len, 0);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
}

static int add_rng(struct hk_devices *devices, struct hk_machine *machine, struct hk_err *err)
{
	struct hk_virtio *dev;
	int r = hk_rng_create(fill_random, &dev, err);

	return r == 0 ? attach(devices, machine, dev, err) : r;
}

static int add_balloon(struct hk_devices *devices, struct hk_machine *machine, struct hk_err *err)
{
	struct hk_virtio *dev;
	int r = hk_balloon_create(&hk_balloon_host_linux, &dev, err);

	return r == 0 ? attach(devices, machine, dev, err) : r;
}

static int open_image(const struct hk_box_disk *disk, int *ret_fd, struct hk_err *err)
{
	/* Not blocking, lest a FIFO be waited for. */
	autoclose int fd = hk_open(
		AT_FDCWD, disk->path, (disk->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0) {
		hk_fail(err, -fd, "open");
		if (fd == -EACCES || fd == -EROFS) {
			hk_err_hint(err, "to read it only: --disk %s:ro", disk->path);
		} else if (fd == -ENOENT) {
			hk_err_hint(err, "make it first: truncate -s 1G %s", disk->path);
		} else if (fd == -EISDIR) {
			hk_err_hint(err, "share a directory with -v, or name a disk image");
		}
		return fd;
	}
	if (fstat(fd, &st) < 0) {
		return hk_fail(err, errno, "stat");
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		hk_fail_msg(err, EINVAL, "it is no disk image");
		return hk_err_hint(err, "name a regular file or a block device");
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int add_disk(struct hk_devices *devices, struct hk_machine *machine,
	const struct hk_box_disk *disk, unsigned index, unsigned vcpu_count, struct hk_err *err)
{
	struct hk_blk_config config = {
		.read_only = disk->read_only, .queue_count = HK_MIN(vcpu_count, MAX_DISK_QUEUES)};
	struct hk_virtio *dev;
	int fd = -1;
	int r = open_image(disk, &fd, err);

	if (r < 0) {
		return r;
	}
	r = hk_blk_open_file(hk_machine_loop(machine), fd, disk->read_only, &config.backend, err);
	if (r == -EBUSY) {
		hk_fail_msg(err, EBUSY, "another box or program uses it");
		return hk_err_hint(err,
			"wait for its end, or let both use it read-only: --disk %s:ro", disk->path);
	}
	if (r < 0) {
		return r;
	}
	hk_fmt(config.serial, sizeof(config.serial), "hako%u", index);
	r = hk_blk_create(&config, &dev, err);
	return r == 0 ? attach(devices, machine, dev, err) : r;
}

int hk_devices_create(struct hk_devices *devices, struct hk_machine *machine,
	const struct hk_layout *layout, struct hk_box_policy *policy, struct hk_fuse_owner *owner,
	struct hk_err *err)
{
	const struct hk_box_config *config = layout->config;
	int r = add_fs(devices, machine, layout, policy, owner, err);

	if (r == 0) {
		r = add_vsock(devices, machine, err);
	}
	if (r == 0) {
		r = add_rng(devices, machine, err);
	}
	if (r == 0) {
		r = add_balloon(devices, machine, err);
	}
	for (unsigned i = 0; r == 0 && i < config->disk_count; i++) {
		r = add_disk(devices, machine, &config->disks[i], i, config->vcpu_count, err);
		if (r < 0) {
			hk_err_ctx(err, "disk '%s'", config->disks[i].path);
		}
	}
	return r;
}

void hk_devices_destroy(struct hk_devices *devices)
{
	for (unsigned i = devices->count; i-- > 0;) {
		hk_virtio_mmio_destroy(devices->transports[i]);
	}
	for (unsigned i = devices->count; i-- > 0;) {
		hk_virtio_destroy(devices->devs[i]);
	}
	hk_timer_disarm(&devices->mend_timer);
	hk_fuse_server_destroy(devices->server);
	*devices = (struct hk_devices){0};
}
