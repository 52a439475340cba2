/* SPDX-License-Identifier: ISC */
/*
 * Confinement: see confine.h. This file: the order of stages, the empty view, capabilities.
 *
 * Theory: each stage may need what the next one takes away: rules name paths, the view is changed
 * with a capability, and Landlock forbids changing it. The system calls of all of them go last.
 *
 * Capabilities: a monitor of root's reads, for an ordinary share, what belongs to others, and in a
 * writable one acts for the guest's users (fuse/host_name_linux.c). With CAP_MKNOD, a disk of the
 * host would be one more call away: it is kept only where each descriptor of a tree stands on a
 * mount that opens no devices, for the box's root where root runs it. CAP_SYS_ADMIN never is, so a
 * guest has no trusted attributes.
 *
 * Limits: Linux; glibc's and musl's habits are known.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "box/confine_impl_linux.h"

HK_LOG_CHANNEL("confine");

static bool any_tree_writable(const struct hk_confine_needs *needs)
{
	for (unsigned i = 0; i < needs->tree_count; i++) {
		if (needs->trees[i].writable) {
			return true;
		}
	}
	return false;
}

static bool any_tree_private(const struct hk_confine_needs *needs)
{
	for (unsigned i = 0; i < needs->tree_count; i++) {
		if (!needs->trees[i].is_public) {
			return true;
		}
	}
	return false;
}

/* glibc loads this library when it first ends a thread, and aborts if it cannot. */
static void load_what_libc_needs(void)
{
#ifdef __GLIBC__
	(void)dlopen("libgcc_s.so.1", RTLD_NOW);
#endif
}

/* The stages are a thread's own; threads inherit them only from the one that starts them. */
static int check_alone(struct hk_err *err)
{
	/* Asks for what a lone thread has anyway. */
	if (!HK_CONFINE_SANITIZED && unshare(CLONE_THREAD) < 0) {
		return hk_fail(err, EBUSY, "confinement: there are threads already");
	}
	return 0;
}

/* An empty, read-only root, the only mount there is. Return: false where that is not allowed. */
static bool leave_file_tree(void)
{
	/* Any directory will do to put it on: nobody sees it. */
	static const char place[] = "/proc";

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0) {
		return false;
	}
	/* With both names ".", the old root ends up on top of the new one, and is taken off. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("hako", place, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			"mode=0555") < 0 ||
		chdir(place) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
		hk_log_debug("no empty view of files: %s", strerror(errno));
		return false;
	}
	return true;
}

static uint64_t needed_capabilities(const struct hk_confine_needs *needs)
{
	static const uint8_t for_writing[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
		CAP_SETFCAP, CAP_SETGID, CAP_SETUID};
	uint64_t set = 0;

	if (any_tree_private(needs)) {
		set |= UINT64_C(1) << CAP_DAC_READ_SEARCH;
	}
	for (size_t i = 0; any_tree_writable(needs) && i < HK_ARRAY_SIZE(for_writing); i++) {
		set |= UINT64_C(1) << for_writing[i];
	}
	if (any_tree_writable(needs) && needs->nodev) {
		set |= UINT64_C(1) << CAP_MKNOD;
	}
	return set;
}

/* Return: how many are left, or -errno. */
static int drop_capabilities(uint64_t keep, struct hk_err *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int left = 0;

	/* The bounding set first, as that takes a capability; who has none to drop is told so. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			break;
		}
	}
	if (syscall(SYS_capget, &header, data) < 0) {
		return hk_fail(err, errno, "capabilities");
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(data); i++) {
		data[i].permitted &= (uint32_t)(keep >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0; /* which empties the ambient set, too */
		left += __builtin_popcount(data[i].permitted);
	}
	if (syscall(SYS_capset, &header, data) < 0) {
		return hk_fail(err, errno, "capabilities");
	}
	return left;
}

/* Return: the version of Landlock in use, 0 for none, or -errno. */
static int prepare_rules(
	const struct hk_confine_needs *needs, int *ret_rules_fd, struct hk_err *err)
{
	int abi = hk_landlock_abi();

	/* The first version refuses each rename to another directory. */
	if (abi == 0 || (abi == 1 && any_tree_writable(needs))) {
		return 0;
	}
	*ret_rules_fd = hk_landlock_rules(abi, needs, err);
	return *ret_rules_fd < 0 ? *ret_rules_fd : abi;
}

static void describe(char *text, int abi, int call_count, bool view_is_empty, int capability_count)
{
	char landlock[24] = "no Landlock";
	char seccomp[32] = "no seccomp";
	char capabilities[24] = "no capabilities";

	if (abi > 0) {
		hk_fmt(landlock, sizeof(landlock), "Landlock ABI %d", abi);
	}
	if (call_count > 0) {
		hk_fmt(seccomp, sizeof(seccomp), "seccomp %d calls", call_count);
	}
	if (capability_count > 0) {
		hk_fmt(capabilities, sizeof(capabilities), "%d capabilities", capability_count);
	}
	hk_fmt(text, HK_CONFINE_TEXT_SIZE, "%s, %s, %s%s", landlock, seccomp, capabilities,
		view_is_empty ? ", empty root directory" : "");
}

int hk_confine(const struct hk_confine_needs *needs, char *ret_text, struct hk_err *err)
{
	autoclose int rules_fd = -1;
	bool view_is_empty;
	int abi;
	int capability_count;
	int call_count = 0;
	int r = check_alone(err);

	if (r < 0 || (abi = r = prepare_rules(needs, &rules_fd, err)) < 0) {
		return r;
	}
	load_what_libc_needs();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return hk_fail(err, errno, "no new privileges");
	}
	view_is_empty = leave_file_tree();
	if (rules_fd >= 0 && (r = hk_landlock_restrict(rules_fd, err)) < 0) {
		return r;
	}
	hk_close(&rules_fd);
	capability_count = r = drop_capabilities(needed_capabilities(needs), err);
	if (r >= 0 && hk_seccomp_offered()) {
		call_count = r = hk_seccomp_restrict(needs, err);
	}
	if (r < 0) {
		return r;
	}
	describe(ret_text, abi, call_count, view_is_empty, capability_count);
	return 0;
}

bool hk_confine_probe(char *text)
{
	int abi = hk_landlock_abi();
	bool has_seccomp = hk_seccomp_offered();

	if (abi > 0) {
		hk_fmt(text, HK_CONFINE_TEXT_SIZE, "Landlock ABI %d, %s", abi,
			has_seccomp ? "seccomp" : "no seccomp");
	} else {
		hk_fmt(text, HK_CONFINE_TEXT_SIZE, "no Landlock, %s",
			has_seccomp ? "seccomp" : "no seccomp");
	}
	return abi > 0 && has_seccomp;
}
