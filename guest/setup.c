/* SPDX-License-Identifier: ISC */
/*
 * Building the box: identity, file tree, new root.
 *
 * Theory: the new root is a mount attached at /root of the initramfs; all work in it goes through
 * its descriptor, with openat2() keeping every lookup inside. The virtiofs mount is attached at
 * /shares and the tmpfs of each overlay at /upper-N, both outside of the new root. In the end the
 * new root is moved onto "/", which covers them: commands have no path to the exports that they
 * were not given. Mounts hold on to what is below them, so nothing is lost by that.
 *
 * Limits: MAX_OVERLAYS. A failure leaves a half-built tree behind: the box ends.
 */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount.h"
#include "platform.h"

enum { MAX_OVERLAYS = 100 };

struct builder {
	struct hk_setup_failure *failure; /* borrowed */
	int root_fd;                      /* owned; the new root */
	int shares_fd;                    /* owned; -1 until an export is needed */
	unsigned overlays;
};

/* Note what failed and pass @r, a negative errno, on. */
__attribute__((format(printf, 3, 4))) static int fail(
	struct builder *b, int r, const char *format, ...)
{
	va_list args;

	b->failure->error = -r;
	va_start(args, format);
	vsnprintf(b->failure->text, sizeof(b->failure->text), format, args);
	va_end(args);
	return r;
}

static const char *step_name(const struct hk_step *step)
{
	static const char *const names[HK_STEP_TYPE_COUNT] = {
		[HK_STEP_FS] = "share",
		[HK_STEP_TMPFS] = "tmpfs",
		[HK_STEP_DIR] = "directory",
		[HK_STEP_SYMLINK] = "symbolic link",
		[HK_STEP_FILE] = "file",
		[HK_STEP_OVERLAY] = "overlay",
		[HK_STEP_HIDE] = "hidden file",
	};

	return names[step->type];
}

/* "share 'src' on '/src': doing" */
static int fail_step(struct builder *b, int r, const struct hk_step *step, const char *doing)
{
	if (step->type == HK_STEP_FS || step->type == HK_STEP_OVERLAY) {
		return fail(b, r, "%s '%s' on '%s': %s", step_name(step), step->source, step->path,
			doing);
	}
	return fail(b, r, "%s '%s': %s", step_name(step), step->path, doing);
}

static int check(int r)
{
	return r < 0 ? -errno : r;
}

/*
 * Open the directory that @path's last component is in, making directories that are missing.
 * @ret_name points into @path; it is "." for "/".
 */
static int open_parent(int root_fd, const char *path, const char **ret_name)
{
	char prefix[HK_CONTROL_MAX_PATH + 1];
	size_t end = strlen(path);
	size_t at = 0;
	int fd;

	while (end > 0 && path[end - 1] == '/') {
		end--;
	}
	fd = hk_mount_open(root_fd, "/", O_PATH | O_DIRECTORY);
	*ret_name = ".";
	for (;;) {
		size_t start = at + strspn(path + at, "/");
		int next;

		at = start + strcspn(path + start, "/");
		if (fd < 0 || start >= end) {
			return fd;
		}
		*ret_name = path + start;
		if (at >= end) {
			return fd;
		}
		memcpy(prefix, path, at);
		prefix[at] = '\0';
		next = hk_mount_open(root_fd, prefix, O_PATH | O_DIRECTORY);
		if (next == -ENOENT) {
			next = check(mkdirat(fd, prefix + start, 0755));
			if (!next || next == -EEXIST) {
				next = hk_mount_open(root_fd, prefix, O_PATH | O_DIRECTORY);
			}
		}
		close(fd);
		fd = next;
	}
}

/* The last component without slashes behind it, which mknod and open would stumble over. */
static const char *trimmed(const char *name, char buf[static HK_CONTROL_MAX_PATH + 1])
{
	size_t len = strcspn(name, "/");

	memcpy(buf, name, len);
	buf[len] = '\0';
	return buf;
}

/* The place for a mount, made if it is not there: a directory, or a file where @is_file. */
static int open_target(int root_fd, const char *path, bool is_file)
{
	int fd = hk_mount_open(root_fd, path, O_PATH);
	char buf[HK_CONTROL_MAX_PATH + 1];
	const char *name;
	int parent;
	int r;

	if (fd != -ENOENT) {
		return fd;
	}
	parent = open_parent(root_fd, path, &name);
	if (parent < 0) {
		return parent;
	}
	name = trimmed(name, buf);
	r = check(is_file ? mknodat(parent, name, S_IFREG | 0644, 0) : mkdirat(parent, name, 0755));
	close(parent);
	return r < 0 ? r : hk_mount_open(root_fd, path, O_PATH);
}

/* A directory goes on a directory, a file on a file; the kernel would only say EINVAL. */
static int check_kinds(bool is_dir, int target)
{
	struct stat st;

	if (fstat(target, &st) < 0) {
		return -errno;
	}
	if (is_dir == S_ISDIR(st.st_mode)) {
		return 0;
	}
	return is_dir ? -ENOTDIR : -EISDIR;
}

/* Attach @mount_fd at @path; closes it. */
static int attach(int root_fd, int mount_fd, const char *path)
{
	struct stat st;
	int r = check(fstat(mount_fd, &st));
	int target = r < 0 ? r : open_target(root_fd, path, !S_ISDIR(st.st_mode));

	r = target < 0 ? target : check_kinds(S_ISDIR(st.st_mode), target);
	if (r == 0) {
		r = hk_mount_attach(mount_fd, target);
	}
	if (target >= 0) {
		close(target);
	}
	close(mount_fd);
	return r;
}

/* ---- Exports ------------------------------------------------------------------------------- */

/* Attach @mount_fd at /@name of the initramfs, out of the box's sight; closes it. Return: its fd */
static int attach_outside(int mount_fd, const char *name)
{
	int initramfs = check(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
	int r = initramfs < 0 ? initramfs : attach(initramfs, mount_fd, name);

	if (r == 0) {
		r = hk_mount_open(initramfs, name, O_PATH | O_DIRECTORY);
	}
	if (initramfs >= 0) {
		close(initramfs);
	}
	return r;
}

/* Virtiofs is mounted when a step first needs it. */
static int open_shares(struct builder *b)
{
	int mount_fd;

	if (b->shares_fd >= 0) {
		return 0;
	}
	mount_fd = hk_platform_mount_shares();
	if (mount_fd < 0) {
		return mount_fd;
	}
	b->shares_fd = attach_outside(mount_fd, "/shares");
	return b->shares_fd < 0 ? b->shares_fd : 0;
}

/* ---- Steps --------------------------------------------------------------------------------- */

static int mount_share(struct builder *b, const struct hk_step *step)
{
	int r = open_shares(b);
	int mount_fd;

	if (r < 0) {
		return fail_step(b, r, step, "mount virtiofs");
	}
	mount_fd = hk_mount_clone(b->shares_fd, step->source);
	if (mount_fd < 0) {
		return fail_step(b, mount_fd, step, "find the export");
	}
	if (step->flags & HK_STEP_RO) {
		r = hk_mount_set(mount_fd, HK_MOUNT_RO);
		if (r < 0) {
			close(mount_fd);
			return fail_step(b, r, step, "make read-only");
		}
	}
	r = attach(b->root_fd, mount_fd, step->path);
	return r < 0 ? fail_step(b, r, step, "mount") : 0;
}

struct tmpfs {
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes; /* 0: the kernel's default */
	unsigned flags;
};

static int new_tmpfs(struct tmpfs t)
{
	struct hk_mount_option options[5] = {0};
	char numbers[4][24];

	snprintf(numbers[0], sizeof(numbers[0]), "%o", t.mode);
	snprintf(numbers[1], sizeof(numbers[1]), "%u", t.uid);
	snprintf(numbers[2], sizeof(numbers[2]), "%u", t.gid);
	snprintf(numbers[3], sizeof(numbers[3]), "%llu", (unsigned long long)t.size_bytes);
	options[0] = (struct hk_mount_option){"mode", numbers[0]};
	options[1] = (struct hk_mount_option){"uid", numbers[1]};
	options[2] = (struct hk_mount_option){"gid", numbers[2]};
	if (t.size_bytes) {
		options[3] = (struct hk_mount_option){"size", numbers[3]};
	}
	return hk_mount_new("tmpfs", options, t.flags);
}

static int mount_tmpfs(struct builder *b, const struct hk_step *step)
{
	int mount_fd = new_tmpfs((struct tmpfs){
		.mode = step->mode,
		.uid = step->uid,
		.gid = step->gid,
		.size_bytes = step->size_bytes,
		.flags = HK_MOUNT_NOSUID | HK_MOUNT_NODEV,
	});
	int r = mount_fd < 0 ? mount_fd : attach(b->root_fd, mount_fd, step->path);

	return r < 0 ? fail_step(b, r, step, "mount") : 0;
}

static int make_dir(int parent, const char *name, const struct hk_step *step)
{
	int r = check(mkdirat(parent, name, 0700));
	int fd;

	if (r < 0 && r != -EEXIST) {
		return r;
	}
	fd = check(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	if (fd < 0) {
		return fd;
	}
	/* The mode last: a change of owner clears set-id bits. */
	r = check(fchown(fd, step->uid, step->gid));
	if (r == 0) {
		r = check(fchmod(fd, step->mode));
	}
	close(fd);
	return r;
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0) {
			return -errno;
		}
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int make_file(int parent, const char *name, const struct hk_step *step)
{
	int fd = check(openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	int r;

	if (fd < 0) {
		return fd;
	}
	r = write_all(fd, step->content, step->content_len);
	if (r == 0) {
		r = check(fchown(fd, step->uid, step->gid));
	}
	if (r == 0) {
		r = check(fchmod(fd, step->mode));
	}
	close(fd);
	return r;
}

/* The steps that need no mount, in the tree of @root_fd. */
static int make_entry(struct builder *b, int root_fd, const struct hk_step *step)
{
	char buf[HK_CONTROL_MAX_PATH + 1];
	const char *name;
	int parent = open_parent(root_fd, step->path, &name);
	int r = 0;

	if (parent < 0) {
		return fail_step(b, parent, step, "open the parent directory");
	}
	name = trimmed(name, buf);
	if (step->type != HK_STEP_DIR && unlinkat(parent, name, 0) < 0 && errno != ENOENT) {
		r = fail_step(b, -errno, step, "remove what is there");
	}
	if (r == 0) {
		switch (step->type) {
		case HK_STEP_DIR:
			r = make_dir(parent, name, step);
			break;
		case HK_STEP_SYMLINK:
			r = check(symlinkat(step->source, parent, name));
			break;
		case HK_STEP_FILE:
			r = make_file(parent, name, step);
			break;
		case HK_STEP_HIDE:
			/* What overlayfs takes for a name that is not there. */
			r = check(mknodat(parent, name, S_IFCHR, 0));
			break;
		default:
			r = -EINVAL;
		}
		if (r < 0) {
			fail_step(b, r, step, "create");
		}
	}
	close(parent);
	return r;
}

static int make_upper(struct builder *b, int upper_fd, const struct hk_step *overlay)
{
	struct hk_control_list steps = overlay->upper;
	struct hk_step step;
	int r = 0;

	while (r == 0 && hk_control_next_step(&steps, &step)) {
		r = make_entry(b, upper_fd, &step);
	}
	return r;
}

/*
 * Overlayfs takes paths, and no commas or colons in them: the layers are named by descriptor.
 * Return: a detached mount, or -errno, noted.
 */
static int new_overlay(struct builder *b, const struct hk_step *step)
{
	struct tmpfs tmpfs = {.mode = 0755, .size_bytes = step->size_bytes};
	char paths[3][32];
	char outside[16];
	int layers[3] = {-1, -1, -1}; /* lower, upper, work */
	int top = -1;
	int r = open_shares(b);

	if (r < 0) {
		return fail_step(b, r, step, "mount virtiofs");
	}
	if (b->overlays == MAX_OVERLAYS) {
		return fail_step(b, -E2BIG, step, "count the overlays");
	}
	layers[0] = check(
		openat(b->shares_fd, step->source, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	if (layers[0] < 0) {
		return fail_step(b, layers[0], step, "find the export");
	}
	snprintf(outside, sizeof(outside), "/upper-%u", b->overlays++);
	r = new_tmpfs(tmpfs);
	if (r >= 0) {
		r = top = attach_outside(r, outside);
	}
	if (r >= 0) {
		r = check(mkdirat(top, "upper", 0755));
	}
	if (r >= 0) {
		r = check(mkdirat(top, "work", 0700));
	}
	if (r >= 0) {
		r = layers[1] = check(openat(top, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC));
	}
	if (r >= 0) {
		r = layers[2] = check(openat(top, "work", O_PATH | O_DIRECTORY | O_CLOEXEC));
	}
	if (r < 0) {
		fail_step(b, r, step, "make the upper layer");
	} else {
		r = make_upper(b, layers[1], step);
	}
	if (r >= 0) {
		for (int i = 0; i < 3; i++) {
			snprintf(paths[i], sizeof(paths[i]), "/proc/self/fd/%d", layers[i]);
		}
		r = hk_mount_new("overlay",
			(const struct hk_mount_option[]){
				{"source", "overlay"},
				{"lowerdir", paths[0]},
				{"upperdir", paths[1]},
				{"workdir", paths[2]},
				{NULL, NULL},
			},
			HK_MOUNT_NODEV | (step->flags & HK_STEP_RO ? HK_MOUNT_RO : 0));
		if (r < 0) {
			fail_step(b, r, step, "mount");
		}
	}
	for (int i = 0; i < 3; i++) {
		if (layers[i] >= 0) {
			close(layers[i]);
		}
	}
	if (top >= 0) {
		close(top);
	}
	return r;
}

static int mount_overlay(struct builder *b, const struct hk_step *step)
{
	int mount_fd = new_overlay(b, step);
	int r;

	if (mount_fd < 0) {
		return mount_fd;
	}
	r = attach(b->root_fd, mount_fd, step->path);
	return r < 0 ? fail_step(b, r, step, "mount") : 0;
}

static int run_step(struct builder *b, const struct hk_step *step)
{
	switch (step->type) {
	case HK_STEP_FS:
		return mount_share(b, step);
	case HK_STEP_TMPFS:
		return mount_tmpfs(b, step);
	case HK_STEP_OVERLAY:
		return mount_overlay(b, step);
	default:
		return make_entry(b, b->root_fd, step);
	}
}

/* ---- The new root -------------------------------------------------------------------------- */

/* An empty tmpfs, or the overlay that the first of @steps asks for; takes that step off. */
static int make_root(struct builder *b, struct hk_control_list *steps)
{
	struct hk_control_list rest = *steps;
	struct hk_step first;
	int mount_fd;

	if (hk_control_next_step(&rest, &first) && first.type == HK_STEP_OVERLAY &&
		strcmp(first.path, "/") == 0) {
		*steps = rest;
		mount_fd = new_overlay(b, &first);
		if (mount_fd < 0) {
			return mount_fd;
		}
	} else {
		mount_fd = new_tmpfs((struct tmpfs){.mode = 0755, .flags = HK_MOUNT_NODEV});
		if (mount_fd < 0) {
			return fail(b, mount_fd, "root: mount a tmpfs");
		}
	}
	b->root_fd = attach_outside(mount_fd, "/root");
	return b->root_fd < 0 ? fail(b, b->root_fd, "root: attach") : 0;
}

static int mount_proc(void)
{
	return hk_mount_new("proc", NULL, HK_MOUNT_NOSUID | HK_MOUNT_NODEV | HK_MOUNT_NOEXEC);
}

static int mount_pts(void)
{
	return hk_mount_new("devpts",
		(const struct hk_mount_option[]){
			{"mode", "620"}, {"ptmxmode", "666"}, {NULL, NULL}},
		HK_MOUNT_NOSUID | HK_MOUNT_NOEXEC);
}

static int mount_sticky(void)
{
	return new_tmpfs((struct tmpfs){.mode = 01777, .flags = HK_MOUNT_NOSUID | HK_MOUNT_NODEV});
}

static int mount_run(void)
{
	return new_tmpfs((struct tmpfs){.mode = 0755, .flags = HK_MOUNT_NOSUID | HK_MOUNT_NODEV});
}

static int mount_standard(struct builder *b)
{
	static const struct {
		const char *path;
		int (*mount)(void);
	} table[] = {
		{"/proc", mount_proc},
		{"/sys", hk_platform_mount_sys},
		{"/dev", hk_platform_mount_dev},
		{"/dev/pts", mount_pts},
		{"/dev/shm", mount_sticky},
		{"/run", mount_run},
		{"/tmp", mount_sticky},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int r = table[i].mount();

		if (r >= 0) {
			r = attach(b->root_fd, r, table[i].path);
		}
		if (r < 0) {
			return fail(b, r, "'%s': mount", table[i].path);
		}
	}
	return 0;
}

/* Move the new root onto "/" and go there; what was there before is then out of reach. */
static int enter_root(struct builder *b)
{
	int old = check(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
	int r = old < 0 ? old : check(fchdir(b->root_fd));

	if (r == 0) {
		r = hk_mount_attach(b->root_fd, old);
	}
	if (r == 0) {
		r = check(chroot("."));
	}
	if (old >= 0) {
		close(old);
	}
	return r < 0 ? fail(b, r, "root: move into place") : 0;
}

static int set_identity(struct builder *b, const struct hk_msg_setup *setup)
{
	int r = hk_platform_add_entropy(setup->entropy, sizeof(setup->entropy));

	if (r < 0) {
		return fail(b, r, "entropy: add");
	}
	r = hk_platform_set_clock(setup->wall_time_ns);
	if (r < 0) {
		return fail(b, r, "clock: set");
	}
	r = hk_platform_set_hostname(setup->hostname);
	if (r < 0) {
		return fail(b, r, "host name '%s': set", setup->hostname);
	}
	r = hk_platform_raise_loopback();
	return r < 0 ? fail(b, r, "network interface 'lo': bring up") : 0;
}

int hk_setup_run(const struct hk_msg_setup *setup, struct hk_setup_failure *ret_failure)
{
	struct builder b = {.failure = ret_failure, .root_fd = -1, .shares_fd = -1};
	struct hk_control_list steps = setup->steps;
	mode_t umask_before = umask(0);
	struct hk_step step;
	int r = set_identity(&b, setup);

	if (r == 0) {
		r = make_root(&b, &steps);
	}
	if (r == 0) {
		r = mount_standard(&b);
	}
	while (r == 0 && hk_control_next_step(&steps, &step)) {
		r = run_step(&b, &step);
	}
	if (r == 0) {
		r = enter_root(&b);
	}
	umask(umask_before);
	if (b.shares_fd >= 0) {
		close(b.shares_fd);
	}
	if (b.root_fd >= 0) {
		close(b.root_fd);
	}
	return r < 0 ? -1 : 0;
}
