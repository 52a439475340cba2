/* SPDX-License-Identifier: ISC */
/*
 * The box's own /etc: see etc.h.
 *
 * Theory: the host's /etc is needed (ld.so.cache, alternatives, ssl certificates, profile), but not
 * what it says about this host: who uses it, what it is called, which networks and disks it has.
 * Files that programs want are replaced, the others hidden. What only root may read is not shown in
 * the first place (hk_fuse_export.public_only).
 *
 * Limits: a list of names. Software that keeps its host's identity in other public files of /etc
 * shows it.
 */
#include "box/etc.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"

static const char *const hidden[] = {
	"adjtime",
	"aliases",
	"crypttab",
	"exports",
	"fstab",
	"group-",
	"gshadow",
	"gshadow-",
	"hostid",
	"iscsi",
	"krb5.keytab",
	"mailname",
	"motd",
	"netplan",
	"network",
	"networks",
	"NetworkManager",
	"passwd-",
	"printcap",
	"shadow",
	"shadow-",
	"subgid",
	"subgid-",
	"subuid",
	"subuid-",
	"sudoers",
	"sudoers.d",
	"systemd/network",
	"wireguard",
	"wpa_supplicant",
};

const char *hk_box_hostname(const char *name)
{
	return name == NULL ? "hako" : name;
}

static void add_file(
	struct hk_control_builder *upper, const char *dir, const char *name, struct hk_str *content)
{
	char path[64];
	struct hk_step step = {.type = HK_STEP_FILE, .path = path, .mode = 0644};

	hk_fmt(path, sizeof(path), "%s/%s", dir, name);
	if (content->failed) {
		upper->error = upper->error < 0 ? upper->error : -ENOMEM;
	} else {
		step.content = (const uint8_t *)hk_str_text(content);
		step.content_len = (uint32_t)content->len;
		hk_control_add_step(upper, &step); /* errors stick to the builder */
	}
	hk_str_finish(content);
}

void hk_etc_add_names(
	struct hk_control_builder *upper, const char *dir, const char *name, const char *machine_id)
{
	const char *hostname = hk_box_hostname(name);
	struct hk_str text = {0};

	hk_str_addf(&text, "%s\n", hostname);
	add_file(upper, dir, "hostname", &text);
	hk_str_addf(&text,
		"127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		hostname);
	add_file(upper, dir, "hosts", &text);
	hk_str_add(&text, "# This box has no network.\n");
	add_file(upper, dir, "resolv.conf", &text);
	hk_str_addf(&text, "%s\n", machine_id);
	add_file(upper, dir, "machine-id", &text);
}

static bool exists(const char *host_root, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	return hk_fmt(path, sizeof(path), "%s/etc/%s", host_root, name) >= 0 &&
		lstat(path, &st) == 0;
}

static const char *login_shell(const char *host_root)
{
	char path[PATH_MAX];
	struct stat st;

	return hk_fmt(path, sizeof(path), "%s/bin/bash", host_root) >= 0 && stat(path, &st) == 0
		? "/bin/bash"
		: "/bin/sh";
}

static void add_users(struct hk_control_builder *upper, const char *dir,
	const struct hk_box_user *user, const char *host_root)
{
	const char *shell = login_shell(host_root);
	bool is_root = user->uid == 0;
	struct hk_str text = {0};

	hk_str_addf(&text, "root:x:0:0:root:/root:%s\n", shell);
	if (!is_root) {
		hk_str_addf(&text, "%s:x:%u:%u::%s:%s\n", user->name, user->uid, user->gid,
			user->home, shell);
	}
	hk_str_add(&text, "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
	add_file(upper, dir, "passwd", &text);
	hk_str_add(&text, "root:x:0:\ntty:x:5:\n");
	if (!is_root && user->gid != 5 && user->gid != 65534) {
		hk_str_addf(&text, "%s:x:%u:\n", user->name, user->gid);
	}
	hk_str_add(&text, "nogroup:x:65534:\n");
	add_file(upper, dir, "group", &text);
}

static void hide(
	struct hk_control_builder *upper, const char *dir, const char *host_root, const char *name)
{
	char path[PATH_MAX];

	if (exists(host_root, name) && hk_fmt(path, sizeof(path), "%s/%s", dir, name) >= 0) {
		hk_control_add_step(upper, &(struct hk_step){.type = HK_STEP_HIDE, .path = path});
	}
}

/* The public halves of the host's keys are readable to all, and name it like nothing else. */
static int hide_ssh_keys(struct hk_control_builder *upper, const char *dir, const char *host_root,
	struct hk_err *err)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *ssh;

	if (hk_fmt(path, sizeof(path), "%s/etc/ssh", host_root) < 0) {
		return hk_fail(err, ENAMETOOLONG, "%s", host_root);
	}
	ssh = opendir(path);
	while (ssh != NULL && (entry = readdir(ssh)) != NULL) {
		if (strncmp(entry->d_name, "ssh_host_", strlen("ssh_host_")) == 0) {
			hk_fmt(path, sizeof(path), "ssh/%s", entry->d_name);
			hide(upper, dir, host_root, path);
		}
	}
	if (ssh != NULL) {
		closedir(ssh);
	}
	return 0;
}

int hk_etc_add(struct hk_control_builder *upper, const char *dir, const char *name,
	const struct hk_box_user *user, const char *host_root, const char *machine_id,
	struct hk_err *err)
{
	int r;

	hk_etc_add_names(upper, dir, name, machine_id);
	add_users(upper, dir, user, host_root);
	for (size_t i = 0; i < HK_ARRAY_SIZE(hidden); i++) {
		hide(upper, dir, host_root, hidden[i]);
	}
	r = hide_ssh_keys(upper, dir, host_root, err);
	if (r == 0 && upper->error < 0) {
		r = hk_fail(err, -upper->error, "/etc of the box");
	}
	return r;
}
