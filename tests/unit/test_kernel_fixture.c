/* SPDX-License-Identifier: ISC */
/* See test_kernel_fixture.h. What fails here is a mistake of the test's: it ends by assert. */
#undef NDEBUG
#include "test_kernel_fixture.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <elf.h>
#include <fcntl.h>
#include <ftw.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"

static struct fx_bytes take(struct hk_str *s)
{
	struct fx_bytes bytes = {.len = s->len};
	char *data;

	assert(hk_str_take(s, &data) == 0);
	bytes.data = (uint8_t *)data;
	return bytes;
}

struct fx_bytes fx_vmlinux(const char *release, bool pvh, const char *marks, size_t filler)
{
	static const struct {
		Elf64_Nhdr header;
		char name[4];
		uint64_t entry;
	} note = {{4, 8, 18}, "Xen", 0x1000000};
	Elf64_Ehdr header = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = 1,
		.e_entry = 0x1000000,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
	};
	Elf64_Phdr segments[2] = {
		{.p_type = PT_LOAD, .p_paddr = 0x1000000, .p_memsz = 0x2000},
		{.p_type = pvh ? PT_NOTE : PT_NULL,
			.p_offset = sizeof(header) + sizeof(segments),
			.p_filesz = sizeof(note)},
	};
	struct hk_str text = {0};
	struct hk_str file = {0};
	uint32_t noise = 1;

	hk_str_addf(&text, "Linux version %%s%cLinux version %s (test) #1%c%s%c", 0, release, 0,
		marks, 0);
	for (size_t i = 0; i < filler; i++) {
		char c;

		noise = noise * 1664525 + 1013904223;
		c = (char)(noise >> 30); /* compresses somewhat */
		hk_str_add_bytes(&text, &c, 1);
	}
	segments[0].p_offset = sizeof(header) + sizeof(segments) + sizeof(note);
	segments[0].p_filesz = text.len;
	hk_str_add_bytes(&file, &header, sizeof(header));
	hk_str_add_bytes(&file, segments, sizeof(segments));
	hk_str_add_bytes(&file, &note, sizeof(note));
	hk_str_add_bytes(&file, text.data, text.len);
	hk_str_finish(&text);
	return take(&file);
}

static struct fx_bytes pack_gzip(struct fx_bytes in)
{
	struct fx_bytes out = {.len = compressBound(in.len) + 64};
	z_stream z = {0};

	out.data = malloc(out.len);
	assert(deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = in.data;
	z.avail_in = (unsigned)in.len;
	z.next_out = out.data;
	z.avail_out = (unsigned)out.len;
	assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
	out.len = z.total_out;
	deflateEnd(&z);
	return out;
}

/* xz as `xz --check=crc32 --x86 --lzma2` makes it for kernels; lzma with an end mark. */
static struct fx_bytes pack_lzma(enum hk_pack pack, struct fx_bytes in)
{
	struct fx_bytes out = {.len = in.len * 2 + 1024};
	lzma_options_lzma options;
	lzma_filter filters[] = {
		{.id = LZMA_FILTER_X86},
		{.id = LZMA_FILTER_LZMA2, .options = &options},
		{.id = LZMA_VLI_UNKNOWN},
	};
	lzma_stream lz = LZMA_STREAM_INIT;

	out.data = malloc(out.len);
	assert(!lzma_lzma_preset(&options, 1));
	assert((pack == HK_PACK_XZ ? lzma_stream_encoder(&lz, filters, LZMA_CHECK_CRC32)
				   : lzma_alone_encoder(&lz, &options)) == LZMA_OK);
	lz.next_in = in.data;
	lz.avail_in = in.len;
	lz.next_out = out.data;
	lz.avail_out = out.len;
	assert(lzma_code(&lz, LZMA_FINISH) == LZMA_STREAM_END);
	out.len = lz.total_out;
	lzma_end(&lz);
	return out;
}

static struct fx_bytes pack_lz4(struct fx_bytes in)
{
	const size_t block = 8 << 20;
	struct fx_bytes out = {.len = 4};

	out.data = malloc(in.len + in.len / 200 + 4096);
	hk_store_le32(out.data, 0x184c2102);
	for (size_t pos = 0; pos < in.len; pos += block) {
		int len = (int)HK_MIN(block, in.len - pos);
		int n = LZ4_compress_default((const char *)in.data + pos,
			(char *)out.data + out.len + 4, len, LZ4_compressBound(len));

		assert(n > 0);
		hk_store_le32(out.data + out.len, (uint32_t)n);
		out.len += 4 + (size_t)n;
	}
	return out;
}

static struct fx_bytes pack_zstd(struct fx_bytes in)
{
	struct fx_bytes out = {.len = ZSTD_compressBound(in.len)};
	ZSTD_CCtx *context = ZSTD_createCCtx();

	out.data = malloc(out.len);
	ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	out.len = ZSTD_compress2(context, out.data, out.len, in.data, in.len);
	assert(!ZSTD_isError(out.len));
	ZSTD_freeCCtx(context);
	return out;
}

struct fx_bytes fx_pack(enum hk_pack pack, struct fx_bytes in)
{
	switch (pack) {
	case HK_PACK_GZIP:
		return pack_gzip(in);
	case HK_PACK_XZ:
	case HK_PACK_LZMA:
		return pack_lzma(pack, in);
	case HK_PACK_LZ4:
		return pack_lz4(in);
	case HK_PACK_ZSTD:
		return pack_zstd(in);
	default:
		assert(!"no such packer");
		abort();
	}
}

struct fx_bytes fx_bzimage(const char *release, enum hk_pack pack, struct fx_bytes vmlinux)
{
	struct fx_bytes packed = fx_pack(pack, vmlinux);
	const size_t stub = 100; /* stands for the decompressor */
	struct fx_bytes image = {.len = FX_SETUP_BYTES + stub + packed.len + 64};
	size_t payload_len = packed.len;
	uint8_t *payload;

	image.data = calloc(1, image.len);
	payload = image.data + FX_SETUP_BYTES + stub;
	memcpy(payload, packed.data, packed.len);
	free(packed.data);
	if (pack != HK_PACK_GZIP) { /* gzip ends with the size */
		hk_store_le32(payload + payload_len, (uint32_t)vmlinux.len);
		payload_len += 4;
	}
	image.data[0x1f1] = FX_SETUP_BYTES / 512 - 1;
	hk_store_le16(image.data + 0x1fe, 0xaa55);
	memcpy(image.data + 0x202, "HdrS", 4);
	hk_store_le16(image.data + 0x206, 0x020f);
	hk_store_le16(image.data + 0x20e, 0x300);
	snprintf((char *)image.data + 0x500, 256, "%s (test@test) #1 SMP", release);
	hk_store_le32(image.data + 0x248, stub);
	hk_store_le32(image.data + 0x24c, (uint32_t)payload_len);
	return image;
}

struct fx_bytes fx_module(const char *name, const char *depends, const char *release)
{
	static const char names[] = "\0.shstrtab\0.modinfo";
	struct hk_str modinfo = {0};
	struct hk_str file = {0};
	Elf64_Ehdr header = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1},
		.e_type = ET_REL,
		.e_machine = EM_X86_64,
		.e_version = 1,
		.e_shoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 1,
	};
	Elf64_Shdr sections[3] = {
		{0},
		{.sh_name = 1,
			.sh_type = SHT_STRTAB,
			.sh_offset = sizeof(header) + sizeof(sections),
			.sh_size = sizeof(names)},
		{.sh_name = 11,
			.sh_type = SHT_PROGBITS,
			.sh_offset = sizeof(header) + sizeof(sections) + sizeof(names)},
	};

	hk_str_addf(&modinfo, "license=GPL%cdepends=%s%cname=%s%cvermagic=%s SMP mod_unload %c", 0,
		depends, 0, name, 0, release, 0);
	sections[2].sh_size = modinfo.len;
	hk_str_add_bytes(&file, &header, sizeof(header));
	hk_str_add_bytes(&file, sections, sizeof(sections));
	hk_str_add_bytes(&file, names, sizeof(names));
	hk_str_add_bytes(&file, modinfo.data, modinfo.len);
	hk_str_finish(&modinfo);
	return take(&file);
}

void fx_make_dir(char path[64])
{
	/* In memory where there is such a place: the store syncs a lot. */
	snprintf(path, 64, "%s/hako-test-kernel-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert(mkdtemp(path) != NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

void fx_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fx_write(const char *dir, const char *name, const void *data, size_t len)
{
	struct hk_str path = {0};
	char *slash;
	int fd;

	hk_str_addf(&path, "%s/%s", dir, name);
	slash = strrchr(path.data, '/');
	*slash = '\0';
	assert(hk_mkdir_p(path.data, 0755, NULL) == 0);
	*slash = '/';
	fd = open(path.data, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert(fd >= 0 && hk_write_full(fd, data, len) == 0);
	close(fd);
	hk_str_finish(&path);
}

void fx_write_text(const char *dir, const char *name, const char *text)
{
	fx_write(dir, name, text, strlen(text));
}

void fx_write_bytes(const char *dir, const char *name, struct fx_bytes bytes)
{
	fx_write(dir, name, bytes.data, bytes.len);
	free(bytes.data);
}

static la_ssize_t collect(struct archive *archive, void *context, const void *bytes, size_t len)
{
	struct hk_str *out = context;

	(void)archive;
	hk_str_add_bytes(out, bytes, len);
	return (la_ssize_t)len;
}

static struct fx_bytes make_tar(enum hk_pack pack, const struct fx_member *members)
{
	struct archive *tar = archive_write_new();
	struct hk_str out = {0};

	assert(archive_write_set_format_gnutar(tar) == ARCHIVE_OK);
	if (pack == HK_PACK_XZ) {
		archive_write_add_filter_xz(tar);
	} else if (pack == HK_PACK_GZIP) {
		archive_write_add_filter_gzip(tar);
	} else if (pack == HK_PACK_ZSTD) {
		archive_write_add_filter_zstd(tar);
	}
	archive_write_set_bytes_in_last_block(tar, 1); /* no padding behind the stream */
	assert(archive_write_open(tar, &out, NULL, collect, NULL) == ARCHIVE_OK);
	for (; members->name != NULL; members++) {
		struct archive_entry *entry = archive_entry_new();

		archive_entry_set_pathname(entry, members->name);
		archive_entry_set_mode(entry, 0755);
		if (members->type == 'l') {
			archive_entry_set_filetype(entry, AE_IFLNK);
			archive_entry_set_symlink(entry, (const char *)members->content.data);
		} else if (members->type == 'h') {
			archive_entry_set_filetype(entry, AE_IFREG);
			archive_entry_set_hardlink(entry, (const char *)members->content.data);
		} else if (members->type == 'd') {
			archive_entry_set_filetype(entry, AE_IFDIR);
		} else {
			archive_entry_set_filetype(entry, AE_IFREG);
			archive_entry_set_size(entry, (la_int64_t)members->content.len);
		}
		assert(archive_write_header(tar, entry) == ARCHIVE_OK);
		if (members->type == 'f') {
			archive_write_data(tar, members->content.data, members->content.len);
		}
		archive_entry_free(entry);
		free(members->content.data);
	}
	assert(archive_write_close(tar) == ARCHIVE_OK);
	archive_write_free(tar);
	return take(&out);
}

static void add_to_ar(struct archive *ar, const char *name, const void *data, size_t len)
{
	struct archive_entry *entry = archive_entry_new();

	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, S_IFREG | 0644);
	archive_entry_set_size(entry, (la_int64_t)len);
	assert(archive_write_header(ar, entry) == ARCHIVE_OK);
	assert(archive_write_data(ar, data, len) == (la_ssize_t)len);
	archive_entry_free(entry);
}

void fx_deb(const char *path, enum hk_pack pack, const struct fx_member *members)
{
	static const char *const names[HK_PACK_COUNT] = {
		[HK_PACK_NONE] = "data.tar",
		[HK_PACK_GZIP] = "data.tar.gz",
		[HK_PACK_XZ] = "data.tar.xz",
		[HK_PACK_ZSTD] = "data.tar.zst",
	};
	struct fx_bytes tar = make_tar(pack, members);
	struct archive *ar = archive_write_new();

	assert(archive_write_set_format_ar_svr4(ar) == ARCHIVE_OK);
	assert(archive_write_open_filename(ar, path) == ARCHIVE_OK);
	add_to_ar(ar, "debian-binary", "2.0\n", 4);
	add_to_ar(ar, "control.tar", "not looked at", 13);
	add_to_ar(ar, names[pack], tar.data, tar.len);
	assert(archive_write_close(ar) == ARCHIVE_OK);
	archive_write_free(ar);
	free(tar.data);
}

void fx_modules(const char *dir, const char *release, bool with_dep)
{
	static const struct {
		const char *path;
		const char *depends;
		const char *dep_line;
	} modules[] = {
		{"kernel/drivers/virtio/virtio.ko", "", ""},
		{"kernel/drivers/virtio/virtio_ring.ko", "", ""},
		{"kernel/drivers/virtio/virtio_mmio.ko", "virtio_ring,virtio",
			" kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko"},
		{"kernel/net/vsock.ko", "", ""},
		{"kernel/net/vmw_vsock_virtio_transport.ko", "vsock,virtio,virtio_ring",
			" kernel/net/vsock.ko kernel/drivers/virtio/virtio_ring.ko"
			" kernel/drivers/virtio/virtio.ko"},
		{"kernel/fs/virtiofs.ko", "fuse,virtio,virtio_ring",
			" kernel/fs/fuse.ko kernel/drivers/virtio/virtio_ring.ko"
			" kernel/drivers/virtio/virtio.ko"},
		{"kernel/fs/fuse.ko", "", ""},
		{"kernel/drivers/char/hw_random/virtio-rng.ko", "virtio",
			" kernel/drivers/virtio/virtio.ko"},
		{"kernel/sound/beep.ko", "virtio", " kernel/drivers/virtio/virtio.ko"},
	};
	struct hk_str dep = {0};

	for (size_t i = 0; i < HK_ARRAY_SIZE(modules); i++) {
		fx_write_bytes(dir, modules[i].path,
			fx_module(modules[i].path, modules[i].depends, release));
		hk_str_addf(&dep, "%s:%s\n", modules[i].path, modules[i].dep_line);
	}
	if (with_dep) {
		fx_write_text(dir, "modules.dep", hk_str_text(&dep));
	}
	fx_write_text(dir, "modules.builtin", "kernel/drivers/block/virtio_blk.ko\n");
	hk_str_finish(&dep);
}
