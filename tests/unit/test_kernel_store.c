/* SPDX-License-Identifier: ISC */
/* The kernel store: what comes in, what is found, what is booted, what is refused. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "kernel/kernel.h"
#include "kernel/store_impl.h"
#include "test_kernel_fixture.h"

#define ALL_BUILT_IN "LNRO0005 vmw_vsock_virtio_transport virtiofs"

static char dir[64];
static struct hk_kernel_store *store;

/* DIR/@below; valid until the second next call. */
static const char *in_dir(const char *below)
{
	static char paths[2][256];
	static unsigned next;

	next ^= 1;
	snprintf(paths[next], sizeof(paths[next]), "%s/%s", dir, below);
	return paths[next];
}

static int set_up(void **state)
{
	fx_make_dir(dir);
	return hk_kernel_store_open(in_dir("store"), &store, NULL);
}

static int tear_down(void **state)
{
	hk_kernel_store_close(store);
	fx_remove(dir);
	return 0;
}

/* Writes a bzImage (HK_PACK_NONE: the ELF file itself). */
static void write_kernel(
	const char *name, const char *release, enum hk_pack pack, const char *marks)
{
	struct fx_bytes vmlinux = fx_vmlinux(release, true, marks, 100);

	if (pack == HK_PACK_NONE) {
		fx_write_bytes(dir, name, vmlinux);
		return;
	}
	fx_write_bytes(dir, name, fx_bzimage(release, pack, vmlinux));
	free(vmlinux.data);
}

static void import(const char *name, struct hk_kernel_info *info)
{
	struct hk_err err = HK_ERR_INIT;
	int r = hk_kernel_import_file(store, in_dir(name), in_dir("modules"), NULL, info, &err);

	if (r < 0) {
		print_error("%s\n", hk_err_text(&err));
	}
	assert_int_equal(r, 0);
}

static void assert_content(const char *id, const char *name, struct fx_bytes expected)
{
	struct hk_str path = {0};
	void *data;
	size_t len;

	hk_str_addf(&path, "%s/%s/%s", hk_kernel_store_dir(store), id, name);
	assert_int_equal(hk_read_file(path.data, 1 << 24, &data, &len, NULL), 0);
	assert_int_equal(len, expected.len);
	assert_memory_equal(data, expected.data, len);
	free(data);
	free(expected.data);
	hk_str_finish(&path);
}

static struct fx_bytes text_bytes(const char *text)
{
	return (struct fx_bytes){(uint8_t *)strdup(text), strlen(text)};
}

static void test_places(void **state)
{
	static const struct {
		const char *data;
		const char *home;
		const char *expected;
	} cases[] = {
		{"data", "home", "data/hako/kernels"},
		{NULL, "home", "home/.local/share/hako/kernels"},
		{"", "home", "home/.local/share/hako/kernels"},
		{"relative", "home", "home/.local/share/hako/kernels"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_kernel_store *here;
		const char *data = cases[i].data;

		if (data == NULL) {
			unsetenv("XDG_DATA_HOME");
		} else {
			setenv("XDG_DATA_HOME", strcmp(data, "data") == 0 ? in_dir(data) : data, 1);
		}
		setenv("HOME", in_dir(cases[i].home), 1);
		assert_int_equal(hk_kernel_store_open(NULL, &here, NULL), 0);
		assert_string_equal(hk_kernel_store_dir(here), in_dir(cases[i].expected));
		assert_int_equal(access(in_dir(cases[i].expected), F_OK), 0);
		hk_kernel_store_close(here);
	}
	unsetenv("XDG_DATA_HOME");
}

static void test_no_place(void **state)
{
	struct hk_kernel_store *here;
	struct hk_err err = HK_ERR_INIT;

	fx_write_text(dir, "file", "");
	assert_int_equal(hk_kernel_store_open(in_dir("file"), &here, &err), -ENOTDIR);
	assert_int_equal(hk_kernel_store_open(in_dir("file/x"), &here, &err), -ENOTDIR);
	unsetenv("XDG_DATA_HOME");
	unsetenv("HOME");
	if (geteuid() != 0) { /* root has another place */
		err = HK_ERR_INIT;
		assert_int_equal(hk_kernel_store_open(NULL, &here, &err), -ENOENT);
		assert_string_equal(hk_err_text(&err),
			"there is no place for kernels: neither XDG_DATA_HOME nor HOME is set");
		assert_true(err.hint[0] != '\0');
	}
}

static void test_import(void **state)
{
	static const enum hk_pack packs[] = {
		HK_PACK_NONE, HK_PACK_GZIP, HK_PACK_XZ, HK_PACK_LZMA, HK_PACK_LZ4, HK_PACK_ZSTD};

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		bool with_dep = i % 2 == 0;
		struct hk_kernel_info info;
		struct hk_kernel_info again;

		fx_modules(in_dir("modules"), FX_RELEASE, with_dep);
		write_kernel("vmlinuz", FX_RELEASE, packs[i], "");
		import("vmlinuz", &info);
		assert_string_equal(info.release, FX_RELEASE);
		assert_string_equal(info.source, in_dir("vmlinuz"));
		assert_int_equal(info.flavour, HK_KERNEL_FILE);
		assert_int_equal(info.module_count, 8);
		assert_true(info.pvh && info.bytes > 100 && info.added_s > 1000000000);
		assert_content(info.id, "vmlinux", fx_vmlinux(FX_RELEASE, true, "", 100));
		assert_content(info.id, "modules/order",
			text_bytes("virtio_ring.ko\nvirtio.ko\nvirtio_mmio.ko\nvsock.ko\n"
				   "vmw_vsock_virtio_transport.ko\n--\nfuse.ko\nvirtiofs.ko\n"
				   "virtio_rng.ko\n"));
		assert_content(info.id, "modules/virtio_rng.ko",
			fx_module("kernel/drivers/char/hw_random/virtio-rng.ko", "virtio",
				FX_RELEASE));
		import("vmlinuz", &again);
		assert_memory_equal(&info, &again, sizeof(info));
		fx_remove(in_dir("modules"));
	}
}

/* What is the same is one entry; another module or another image makes another. */
static void test_content_is_the_key(void **state)
{
	struct hk_kernel_info infos[4];
	struct hk_kernel_info *list;
	size_t count;

	fx_modules(in_dir("modules"), FX_RELEASE, true);
	write_kernel("a", FX_RELEASE, HK_PACK_XZ, "");
	write_kernel("b", FX_RELEASE, HK_PACK_XZ, "");
	write_kernel("c", FX_RELEASE, HK_PACK_XZ, "other");
	import("a", &infos[0]);
	import("b", &infos[1]);
	assert_string_equal(infos[0].id, infos[1].id);
	assert_string_equal(infos[1].source, infos[0].source);
	import("c", &infos[2]);
	assert_string_not_equal(infos[0].id, infos[2].id);
	fx_write_bytes(
		in_dir("modules"), "kernel/fs/fuse.ko", fx_module("changed", "", FX_RELEASE));
	import("a", &infos[3]);
	assert_string_not_equal(infos[0].id, infos[3].id);
	/* A module that no guest needs changes nothing. */
	fx_write_text(in_dir("modules"), "kernel/sound/beep.ko", "changed");
	import("a", &infos[1]);
	assert_string_equal(infos[1].id, infos[3].id);
	assert_int_equal(hk_kernel_list(store, &list, &count, NULL), 0);
	assert_int_equal(count, 3);
	free(list);
}

static void test_compressed_modules(void **state)
{
	static const struct {
		enum hk_pack pack;
		const char *end;
	} kinds[] = {{HK_PACK_XZ, ".xz"}, {HK_PACK_ZSTD, ".zst"}, {HK_PACK_GZIP, ".gz"}};
	struct hk_kernel_info plain;

	fx_modules(in_dir("modules"), FX_RELEASE, false);
	write_kernel("vmlinuz", FX_RELEASE, HK_PACK_LZ4, "");
	import("vmlinuz", &plain);
	for (size_t i = 0; i < HK_ARRAY_SIZE(kinds); i++) {
		struct fx_bytes module = fx_module("kernel/fs/fuse.ko", "", FX_RELEASE);
		struct fx_bytes packed = fx_pack(kinds[i].pack, module);
		struct hk_kernel_info info;
		char name[64];

		unlink(in_dir("modules/kernel/fs/fuse.ko"));
		snprintf(name, sizeof(name), "modules/kernel/fs/fuse.ko%s", kinds[i].end);
		fx_write_bytes(dir, name, packed);
		free(module.data);
		import("vmlinuz", &info);
		assert_string_equal(info.id, plain.id);
		unlink(in_dir(name));
	}
}

static void test_built_in(void **state)
{
	struct hk_kernel_info info;
	struct hk_err err = HK_ERR_INIT;

	write_kernel("vmlinux", "6.1.99-none", HK_PACK_NONE, ALL_BUILT_IN);
	assert_int_equal(
		hk_kernel_import_file(store, in_dir("vmlinux"), NULL, NULL, &info, &err), 0);
	assert_int_equal(info.module_count, 0);
	assert_content(info.id, "modules/order", text_bytes(""));
}

static void test_refused(void **state)
{
	static const struct {
		const char *what;
		int result;
		const char *text; /* part of it */
		const char *hint; /* part of it */
	} cases[] = {
		{"absent", -ENOENT, "kernel 'DIR/absent': open: No such file or directory", ""},
		{"directory", -ENOEXEC, "kernel 'DIR/directory': not a regular file", ""},
		{"fifo", -ENOEXEC, "kernel 'DIR/fifo': not a regular file", ""},
		{"text", -ENOEXEC,
			"kernel 'DIR/text': not a kernel for x86-64: neither a bzImage "
			"nor an ELF file",
			""},
		{"empty", -ENOEXEC, "kernel 'DIR/empty': not a kernel for x86-64", ""},
		{"program", -ENOEXEC, "kernel 'DIR/program': not a Linux kernel: it has no banner",
			""},
		{"cut", -EBADMSG, "kernel 'DIR/cut': cut short: the compressed kernel ends at byte",
			""},
		{"damaged", -EBADMSG, "kernel 'DIR/damaged': the xz stream is corrupt or cut short",
			""},
		{"not-elf", -ENOEXEC, "kernel 'DIR/not-elf': not an ELF file", ""},
		{"no-mmio", -ENODEV,
			"kernel 'DIR/no-mmio': the kernel has no virtio-mmio driver: it is neither "
			"built in nor a module",
			"'hako kernel fetch' gets a kernel that has it"},
		{"no-dir", -ENODEV, "kernel 'DIR/no-dir': the kernel has no virtio-mmio driver",
			"there is no '/lib/modules/6.1.99-none' to take modules from"},
		{"bad-dir", -ENOENT,
			"kernel 'DIR/bad-dir': modules 'DIR/nothing': open: No such file", ""},
		{"no-file", -ENOENT,
			"kernel 'DIR/no-file': module 'fuse': "
			"'DIR/modules/kernel/fs/fuse.ko': open: No such file or directory",
			""},
		{"other", -EBADMSG,
			"kernel 'DIR/other': module 'virtio_mmio' is for the kernel '" FX_RELEASE
			"', not '6.1.99-none'",
			""},
	};
	struct fx_bytes text = {(uint8_t *)strdup("not a kernel at all, but quite some text"), 40};
	struct fx_bytes image;

	assert_int_equal(mkdir(in_dir("directory"), 0755), 0);
	assert_int_equal(mkfifo(in_dir("fifo"), 0644), 0);
	fx_write_text(dir, "text", "hello");
	fx_write_text(dir, "empty", "");
	fx_write_bytes(dir, "program", fx_vmlinux("unknown", true, "", 0));
	image = fx_bzimage(FX_RELEASE, HK_PACK_XZ, text);
	fx_write(dir, "cut", image.data, image.len - 70);
	image.data[FX_SETUP_BYTES + 100 + 20] ^= 1;
	fx_write_bytes(dir, "damaged", image);
	fx_write_bytes(dir, "not-elf", fx_bzimage(FX_RELEASE, HK_PACK_XZ, text));
	free(text.data);
	assert_int_equal(mkdir(in_dir("no-modules"), 0755), 0);
	write_kernel("no-mmio", FX_RELEASE, HK_PACK_XZ, "");
	write_kernel("no-dir", "6.1.99-none", HK_PACK_XZ, "");
	write_kernel("bad-dir", "6.1.99-none", HK_PACK_XZ, "");
	write_kernel("no-file", FX_RELEASE, HK_PACK_XZ, "");
	write_kernel("other", "6.1.99-none", HK_PACK_XZ, "");
	fx_modules(in_dir("modules"), FX_RELEASE, true);
	unlink(in_dir("modules/kernel/fs/fuse.ko"));

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		const char *what = cases[i].what;
		const char *modules = strcmp(what, "no-mmio") == 0 ? in_dir("no-modules")
			: strcmp(what, "no-dir") == 0              ? NULL
			: strcmp(what, "bad-dir") == 0             ? in_dir("nothing")
								   : in_dir("modules");
		struct hk_err err = HK_ERR_INIT;
		struct hk_kernel_info info;
		struct hk_str expected = {0};

		assert_int_equal(
			hk_kernel_import_file(store, in_dir(what), modules, NULL, &info, &err),
			cases[i].result);
		for (const char *at = cases[i].text; *at != '\0'; at++) {
			if (strncmp(at, "DIR", 3) == 0) {
				hk_str_add(&expected, dir);
				at += 2;
			} else {
				hk_str_add_bytes(&expected, at, 1);
			}
		}
		if (strncmp(hk_err_text(&err), expected.data, expected.len) != 0) {
			print_error("%s\n", hk_err_text(&err));
		}
		assert_int_equal(strncmp(hk_err_text(&err), expected.data, expected.len), 0);
		assert_non_null(strstr(err.hint, cases[i].hint));
		hk_str_finish(&expected);
	}
}

/* Imports a small kernel as if it came from @flavour. */
static void add(const char *release, enum hk_kernel_flavour flavour, struct hk_kernel_info *info)
{
	char name[100];

	write_kernel("vmlinuz", release, HK_PACK_NONE, ALL_BUILT_IN);
	assert_int_equal(
		hk_kernel_import_file(store, in_dir("vmlinuz"), NULL, NULL, info, NULL), 0);
	info->flavour = flavour;
	snprintf(name, sizeof(name), "%s", info->id);
	assert_int_equal(hk_store_write_info(store, name, info, NULL), 0);
}

static void test_find(void **state)
{
	struct hk_kernel_info infos[6];
	static const struct {
		const char *release;
		enum hk_kernel_flavour flavour;
	} kernels[] = {
		{"6.9.0-file", HK_KERNEL_FILE},
		{"6.1.0-9-cloud", HK_KERNEL_CLOUD},
		{"6.1.0-56-cloud", HK_KERNEL_CLOUD},
		{"6.1.0-56", HK_KERNEL_FULL},
		{"6.8.0-host", HK_KERNEL_HOST},
		{"6.1.0-10-cloud", HK_KERNEL_CLOUD},
	};
	static const struct {
		const char *name;
		int index; /* of @kernels; or -errno */
	} cases[] = {
		{NULL, 2},
		{"cloud", 2},
		{"full", 3},
		{"host", 4},
		{"file", 0},
		{"6.1.0-9-cloud", 1},
		{"6.1.0-56", 3}, /* whole before beginning */
		{"6.1.0-5", 2},
		{"6.1", 2},
		{"6.8", 4},
		{"6", 2},
		{"7", -ENOENT},
		{"", -ENOENT},
		{"clou", -ENOENT},
		{"6.1.0-56-cloudy", -ENOENT},
	};
	struct hk_kernel_info info;
	struct hk_err err = HK_ERR_INIT;
	struct hk_kernel_info *list;
	size_t count;

	assert_int_equal(hk_kernel_find(store, NULL, &info, &err), -ENOENT);
	assert_non_null(strstr(hk_err_text(&err), "there is no kernel in"));
	assert_non_null(strstr(err.hint, "hako kernel fetch"));
	for (size_t i = 0; i < HK_ARRAY_SIZE(kernels); i++) {
		add(kernels[i].release, kernels[i].flavour, &infos[i]);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		int r = hk_kernel_find(store, cases[i].name, &info, &err);

		assert_int_equal(r, HK_MIN(cases[i].index, 0));
		if (r == 0) {
			assert_string_equal(info.id, infos[cases[i].index].id);
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(kernels); i++) {
		char start[13];

		assert_int_equal(hk_kernel_find(store, infos[i].id, &info, &err), 0);
		assert_memory_equal(&info, &infos[i], sizeof(info));
		snprintf(start, sizeof(start), "%.12s", infos[i].id);
		assert_int_equal(hk_kernel_resolve(store, start, NULL, NULL, &info, &err), 0);
		assert_string_equal(info.id, infos[i].id);
	}
	assert_int_equal(hk_kernel_list(store, &list, &count, &err), 0);
	assert_int_equal(count, 6);
	assert_string_equal(list[0].release, "6.1.0-56-cloud");
	assert_string_equal(list[1].release, "6.1.0-10-cloud");
	assert_string_equal(list[2].release, "6.1.0-9-cloud");
	assert_string_equal(list[5].release, "6.9.0-file");
	free(list);

	assert_int_equal(hk_kernel_remove(store, infos[2].id, &err), 0);
	assert_int_equal(hk_kernel_find(store, NULL, &info, &err), 0);
	assert_string_equal(info.release, "6.1.0-10-cloud");
	err = HK_ERR_INIT;
	assert_int_equal(hk_kernel_remove(store, infos[2].id, &err), -ENOENT);
	assert_non_null(strstr(hk_err_text(&err), "not there"));
	assert_int_equal(hk_kernel_remove(store, "../store", &err), -ENOENT);
	assert_int_equal(hk_kernel_remove(store, "", &err), -ENOENT);
}

static void test_ambiguous_id(void **state)
{
	struct hk_kernel_info info;
	struct hk_err err = HK_ERR_INIT;
	char release[32];

	/* Among 17 ids two begin with the same digit; releases do not begin with letters. */
	for (unsigned i = 0; i < 40; i++) {
		snprintf(release, sizeof(release), "6.%u", i);
		add(release, HK_KERNEL_FILE, &info);
	}
	for (const char *digit = "abcdef"; *digit != '\0'; digit++) {
		const char name[2] = {*digit};
		int r = hk_kernel_find(store, name, &info, &err);

		assert_true(r == 0 || r == -ENOENT || r == -ENOTUNIQ);
		if (r == -ENOTUNIQ) {
			assert_non_null(strstr(hk_err_text(&err), "several ids begin like this"));
			return;
		}
	}
	fail_msg("no two of 40 ids begin with the same letter");
}

static void test_damaged_entry(void **state)
{
	static const char *const infos[] = {
		"",
		"hako-kernel 2\nrelease 6.1\n",
		"hako-kernel 1\nrelease ../x\nflavour file\nadded 1\nbytes 1\nmodules 0\nneeds 0\n"
		"pvh 1\nsource x\n",
		"hako-kernel 1\nrelease 6.1\nflavour none\nadded 1\nbytes 1\nmodules 0\nneeds 0\n"
		"pvh 1\nsource x\n",
		"hako-kernel 1\nrelease 6.1\nflavour file\nadded -1\nbytes 1\nmodules 0\nneeds 0\n"
		"pvh 1\nsource x\n",
		"hako-kernel 1\nrelease 6.1\nflavour file\nadded 1\nbytes 1\nmodules 0\nneeds 0\n"
		"pvh 2\nsource x\n",
		"hako-kernel 1\nrelease 6.1\nflavour file\nadded 1\nbytes 1\nmodules 0\nneeds 0\n"
		"pvh 1\nsource x",
	};
	struct hk_kernel_info info;
	struct hk_kernel_info again;
	char name[64];

	write_kernel("vmlinuz", "6.1.99-none", HK_PACK_NONE, ALL_BUILT_IN);
	assert_int_equal(
		hk_kernel_import_file(store, in_dir("vmlinuz"), NULL, NULL, &info, NULL), 0);
	snprintf(name, sizeof(name), "store/%s/info", info.id);
	for (size_t i = 0; i < HK_ARRAY_SIZE(infos); i++) {
		struct hk_kernel_info *list;
		size_t count;

		fx_write_text(dir, name, infos[i]);
		assert_int_equal(hk_kernel_list(store, &list, &count, NULL), 0);
		assert_int_equal(count, 0);
		assert_null(list);
		assert_int_equal(
			hk_kernel_import_file(store, in_dir("vmlinuz"), NULL, NULL, &again, NULL),
			0);
		assert_string_equal(again.id, info.id);
	}
}

static void test_host(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_kernel_info info;

	assert_int_equal(
		hk_kernel_import_host_at(store, in_dir("root"), "6.1.0-1", NULL, &info, &err),
		-ENOENT);
	assert_non_null(strstr(hk_err_text(&err), "this host has no kernel in"));
	assert_non_null(strstr(err.hint, "hako kernel fetch"));

	write_kernel("root/boot/vmlinuz-6.1.0-9", "6.1.0-9", HK_PACK_XZ, "");
	write_kernel("root/boot/vmlinuz-6.1.0-10", "6.1.0-10", HK_PACK_XZ, "");
	write_kernel("root/lib/modules/6.1.0-2/vmlinuz", "6.1.0-2", HK_PACK_XZ, "");
	fx_write_text(dir, "root/boot/vmlinuz-old", "not looked at");
	fx_modules(in_dir("root/lib/modules/6.1.0-9"), "6.1.0-9", true);
	fx_modules(in_dir("root/lib/modules/6.1.0-10"), "6.1.0-10", true);
	fx_modules(in_dir("root/lib/modules/6.1.0-2"), "6.1.0-2", true);
	/* The running one; where it is not there the newest one. */
	assert_int_equal(
		hk_kernel_import_host_at(store, in_dir("root"), "6.1.0-9", NULL, &info, &err), 0);
	assert_string_equal(info.release, "6.1.0-9");
	assert_int_equal(info.flavour, HK_KERNEL_HOST);
	assert_int_equal(
		hk_kernel_import_host_at(store, in_dir("root"), "6.1.0-2", NULL, &info, &err), 0);
	assert_string_equal(info.release, "6.1.0-2");
	assert_int_equal(
		hk_kernel_import_host_at(store, in_dir("root"), "5.0", NULL, &info, &err), 0);
	assert_string_equal(info.release, "6.1.0-10");
	if (geteuid() != 0) {
		chmod(in_dir("root/boot/vmlinuz-6.1.0-9"), 0);
		assert_int_equal(hk_kernel_import_host_at(
					 store, in_dir("root"), "6.1.0-9", NULL, &info, &err),
			-EACCES);
		assert_non_null(strstr(err.hint, "only root may read"));
	}
}

/* --- booting --- */

static void assert_initramfs(int fd, const char *guest)
{
	static const char *const names[] = {"dev", "dev/console", "init", "modules",
		"modules/order", "modules/virtio_ring.ko", "modules/virtio.ko",
		"modules/virtio_mmio.ko", "modules/vsock.ko",
		"modules/vmw_vsock_virtio_transport.ko", "modules/fuse.ko", "modules/virtiofs.ko",
		"modules/virtio_rng.ko"};
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	size_t count = 0;

	archive_read_support_format_cpio(archive);
	assert_int_equal(archive_read_open_fd(archive, fd, 4096), ARCHIVE_OK);
	while (archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
		assert_true(count < HK_ARRAY_SIZE(names));
		assert_string_equal(archive_entry_pathname(entry), names[count]);
		if (strcmp(names[count], "init") == 0) {
			char content[64] = "";

			assert_int_equal(archive_entry_mode(entry), S_IFREG | 0755);
			assert_int_equal(archive_read_data(archive, content, sizeof(content)),
				strlen(guest));
			assert_string_equal(content, guest);
		}
		count++;
	}
	assert_int_equal(count, HK_ARRAY_SIZE(names));
	archive_read_free(archive);
}

static unsigned count_initramfs(const char *id)
{
	char path[200];
	struct dirent *entry;
	unsigned count = 0;
	DIR *stream;

	snprintf(path, sizeof(path), "%s/%s", hk_kernel_store_dir(store), id);
	stream = opendir(path);
	while ((entry = readdir(stream)) != NULL) {
		count += strncmp(entry->d_name, "initramfs-", 10) == 0;
	}
	closedir(stream);
	return count;
}

static void test_prepare(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_kernel_info info;
	struct hk_kernel kernel;
	struct stat first;
	struct stat second;
	char name[100];

	fx_modules(in_dir("modules"), FX_RELEASE, true);
	write_kernel("vmlinuz", FX_RELEASE, HK_PACK_ZSTD, "");
	import("vmlinuz", &info);
	assert_int_equal(hk_kernel_prepare(store, info.id, "agent", 5, &kernel, &err), 0);
	assert_memory_equal(&kernel.info, &info, sizeof(info));
	assert_int_equal(fstat(kernel.initramfs_fd, &first), 0);
	assert_int_equal(stat(kernel.initramfs_path, &second), 0);
	assert_int_equal(first.st_ino, second.st_ino);
	assert_int_equal(stat(kernel.vmlinux_path, &second), 0);
	assert_true(fcntl(kernel.initramfs_fd, F_GETFD) & FD_CLOEXEC);
	assert_initramfs(kernel.initramfs_fd, "agent");
	hk_kernel_finish(&kernel);
	hk_kernel_finish(&kernel);

	/* The same agent: the same file. Another one: another file, and the oldest go. */
	assert_int_equal(hk_kernel_prepare(store, info.id, "agent", 5, &kernel, &err), 0);
	assert_int_equal(fstat(kernel.initramfs_fd, &second), 0);
	assert_int_equal(first.st_ino, second.st_ino);
	for (unsigned i = 0; i < 10; i++) {
		struct hk_kernel other;

		snprintf(name, sizeof(name), "agent %u", i);
		assert_int_equal(
			hk_kernel_prepare(store, info.id, name, strlen(name), &other, &err), 0);
		assert_initramfs(other.initramfs_fd, name);
		hk_kernel_finish(&other);
	}
	assert_int_equal(count_initramfs(info.id), 4);

	/* What is open stays good. */
	assert_int_equal(hk_kernel_remove(store, info.id, &err), 0);
	assert_initramfs(kernel.initramfs_fd, "agent");
	assert_int_equal(fstat(kernel.vmlinux_fd, &second), 0);
	hk_kernel_finish(&kernel);
	err = HK_ERR_INIT;
	assert_int_equal(hk_kernel_prepare(store, info.id, "agent", 5, &kernel, &err), -ENOENT);
	assert_int_equal(hk_kernel_prepare(store, info.id, "", 0, &kernel, &err), -ENOENT);
	assert_non_null(strstr(hk_err_text(&err), "built without its guest agent"));
}

/* --- fetching, with an apt of ours --- */

static void script(const char *name, const char *text)
{
	char below[64];

	snprintf(below, sizeof(below), "bin/%s", name);
	fx_write_text(dir, below, text);
	assert_int_equal(chmod(in_dir(below), 0755), 0);
}

static struct fx_bytes file_bytes(const char *path)
{
	struct fx_bytes bytes;
	void *data;

	assert_int_equal(hk_read_file(path, 1 << 24, &data, &bytes.len, NULL), 0);
	bytes.data = data;
	return bytes;
}

static void make_package(void)
{
	static const char *const modules[] = {"drivers/virtio/virtio", "drivers/virtio/virtio_ring",
		"drivers/virtio/virtio_mmio", "net/vsock", "net/vmw_vsock_virtio_transport",
		"fs/virtiofs", "fs/fuse", "drivers/char/hw_random/virtio-rng"};
	struct fx_member members[HK_ARRAY_SIZE(modules) + 2] = {0};
	char names[HK_ARRAY_SIZE(modules) + 1][120];

	fx_modules(in_dir("modules"), FX_RELEASE, false);
	write_kernel("vmlinuz", FX_RELEASE, HK_PACK_LZ4, "");
	for (size_t i = 0; i < HK_ARRAY_SIZE(modules); i++) {
		char path[120];

		snprintf(names[i], sizeof(names[i]), "./lib/modules/" FX_RELEASE "/kernel/%s.ko",
			modules[i]);
		snprintf(path, sizeof(path), "modules/kernel/%s.ko", modules[i]);
		members[i] = (struct fx_member){names[i], 'f', file_bytes(in_dir(path))};
	}
	members[HK_ARRAY_SIZE(modules)] = (struct fx_member){
		"./boot/vmlinuz-" FX_RELEASE, 'f', file_bytes(in_dir("vmlinuz"))};
	fx_deb(in_dir("package.deb"), HK_PACK_XZ, members);
}

static unsigned count_entries(void)
{
	struct dirent *entry;
	unsigned count = 0;
	DIR *stream = opendir(hk_kernel_store_dir(store));

	while ((entry = readdir(stream)) != NULL) {
		count += entry->d_name[0] != '.';
	}
	closedir(stream);
	return count;
}

static void test_fetch(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_kernel_info info;
	struct hk_kernel_info again;
	char *saved_path = strdup(getenv("PATH"));
	char text[256];

	snprintf(text, sizeof(text), "%s/bin:/usr/bin:/bin", dir);
	setenv("PATH", text, 1);
	make_package();
	script("apt-cache",
		"#!/bin/sh\n[ $3 = linux-image-amd64 ] && v=2\n"
		"echo \"Depends: linux-image-" FX_RELEASE " (= 6.1-${v:-1})\"\n");
	snprintf(text, sizeof(text), "#!/bin/sh\ncp %s/package.deb x.deb; echo 'W: noise' >&2\n",
		dir);
	script("apt-get", text);
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_CLOUD, NULL, &info, &err), 0);
	assert_int_equal(info.flavour, HK_KERNEL_CLOUD);
	assert_string_equal(info.source, "linux-image-" FX_RELEASE " 6.1-1");
	assert_int_equal(info.module_count, 8);
	assert_int_equal(count_entries(), 2); /* with the lock */

	/* It is there: not downloaded again. As another package it is, but is the same kernel. */
	script("apt-get", "#!/bin/sh\nexit 1\n");
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_CLOUD, NULL, &again, &err), 0);
	assert_memory_equal(&again, &info, sizeof(info));
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_FULL, NULL, &again, &err), -EIO);
	assert_int_equal(count_entries(), 2);
	script("apt-get", text);
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_FULL, NULL, &again, &err), 0);
	assert_memory_equal(&again, &info, sizeof(info));

	/* A list of needs of another hako: fetched anew. */
	info.needs++;
	assert_int_equal(hk_store_write_info(store, info.id, &info, &err), 0);
	script("apt-get", "#!/bin/sh\nexit 1\n");
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_CLOUD, NULL, &again, &err), -EIO);

	/* Found again as file: stays what it was. A kernel known as file becomes a package's. */
	assert_int_equal(hk_kernel_remove(store, info.id, &err), 0);
	import("vmlinuz", &again);
	assert_int_equal(again.flavour, HK_KERNEL_FILE);
	script("apt-get", text);
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_CLOUD, NULL, &info, &err), 0);
	assert_string_equal(info.id, again.id);
	assert_int_equal(info.flavour, HK_KERNEL_CLOUD);
	import("vmlinuz", &again);
	assert_int_equal(again.flavour, HK_KERNEL_CLOUD);

	/* A package with no kernel in it names itself. */
	assert_int_equal(hk_kernel_remove(store, info.id, &err), 0);
	err = HK_ERR_INIT;
	script("apt-get", "#!/bin/sh\necho broken >x.deb\n");
	assert_int_equal(hk_kernel_fetch(store, HK_KERNEL_CLOUD, NULL, &info, &err), -EBADMSG);
	assert_non_null(strstr(hk_err_text(&err), "/x.deb': corrupt or not a Debian package"));
	assert_int_equal(count_entries(), 1);
	setenv("PATH", saved_path, 1);
	free(saved_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_place, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_import, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_content_is_the_key, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_compressed_modules, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_built_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_find, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ambiguous_id, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damaged_entry, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_host, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_prepare, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fetch, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
