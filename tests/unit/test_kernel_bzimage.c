/* SPDX-License-Identifier: ISC */
/* bzImages: each compression; each field of the header damaged; cut short at every length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/util.h"
#include "kernel/bzimage.h"
#include "test_kernel_fixture.h"

static const enum hk_pack packs[] = {
	HK_PACK_GZIP, HK_PACK_XZ, HK_PACK_LZMA, HK_PACK_LZ4, HK_PACK_ZSTD};

/* Parses and extracts. Return: 0 if the vmlinux is @expected, 1 if another, or -errno. */
static int read_image(const uint8_t *data, size_t len, struct fx_bytes expected, struct hk_err *err)
{
	struct hk_bzimage image;
	void *vmlinux;
	size_t vmlinux_len;
	int r = hk_bzimage_parse(data, len, &image, err);

	if (r < 0) {
		return r;
	}
	assert_true(strlen(image.release) > 0);
	r = hk_bzimage_extract(data, &image, &vmlinux, &vmlinux_len, err);
	if (r < 0) {
		return r;
	}
	r = vmlinux_len != expected.len || memcmp(vmlinux, expected.data, vmlinux_len) != 0;
	free(vmlinux);
	return r;
}

static void test_each_compression(void **state)
{
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 70000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes image = fx_bzimage(FX_RELEASE, packs[i], vmlinux);
		struct hk_err err = HK_ERR_INIT;
		struct hk_bzimage header;

		assert_true(hk_bzimage_detect(image.data, image.len));
		assert_int_equal(hk_bzimage_parse(image.data, image.len, &header, &err), 0);
		assert_string_equal(header.release, FX_RELEASE);
		assert_int_equal(header.pack, packs[i]);
		assert_int_equal(header.vmlinux_len, vmlinux.len);
		assert_int_equal(read_image(image.data, image.len, vmlinux, &err), 0);
		free(image.data);
	}
	free(vmlinux.data);
}

static void test_damaged_fields(void **state)
{
	static const struct {
		size_t offset;
		unsigned size;
		uint32_t value;
		int result;
		const char *text;
	} cases[] = {
		{0x1fe, 2, 0xaa54, -ENOEXEC, "not a bzImage"},
		{0x202, 4, 0, -ENOEXEC, "not a bzImage"},
		{0x206, 2, 0x0207, -ENOTSUP, "boot protocol 2.07 is too old, 2.08 is needed"},
		{0x206, 2, 0, -ENOTSUP, "boot protocol 0.00 is too old, 2.08 is needed"},
		{0x1f1, 1, 255, -EBADMSG, "cut short within the real-mode code"},
		{0x20e, 2, 0, -EBADMSG, "the setup header names no kernel version"},
		{0x20e, 2, 0xffff, -EBADMSG, "corrupt: the kernel's version is not readable"},
		{0x20e, 2, 0x100, -EBADMSG, "corrupt: the kernel's version is not readable"},
		{0x500, 4, 0x2f2e2e36, -EBADMSG, /* "6../" */
			"corrupt: the kernel's version is not readable"},
		{0x24c, 4, 0, -EBADMSG, "corrupt: it holds no compressed kernel"},
		{0x24c, 4, 4, -EBADMSG, "corrupt: it holds no compressed kernel"},
		{0x24c, 4, UINT32_MAX, -EBADMSG, NULL},
		{0x248, 4, UINT32_MAX, -EBADMSG, NULL},
		{0x248, 4, 99, -ENOTSUP,
			"compressed with an unknown format, which hako cannot read"},
		{0x248, 4, 0, -EBADMSG, NULL},
		{FX_SETUP_BYTES + 100, 4, 0x39685a42, -ENOTSUP,
			"compressed with bzip2, which hako cannot read"},
	};
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 1000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct fx_bytes image = fx_bzimage(FX_RELEASE, HK_PACK_XZ, vmlinux);
		struct hk_err err = HK_ERR_INIT;
		uint8_t value[4];

		hk_store_le32(value, cases[i].value);
		memcpy(image.data + cases[i].offset, value, cases[i].size);
		assert_int_equal(read_image(image.data, image.len, vmlinux, &err), cases[i].result);
		if (cases[i].text != NULL) {
			assert_string_equal(hk_err_text(&err), cases[i].text);
		}
		free(image.data);
	}
	free(vmlinux.data);
}

static void test_damaged_size(void **state)
{
	static const uint32_t sizes[] = {0, 1, UINT32_MAX, (512u << 20) + 1, 512u << 20};
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 1000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes image = fx_bzimage(FX_RELEASE, packs[i], vmlinux);
		uint8_t *size =
			image.data + FX_SETUP_BYTES + 100 + hk_load_le32(image.data + 0x24c) - 4;

		assert_int_equal(hk_load_le32(size), vmlinux.len);
		for (size_t k = 0; k < HK_ARRAY_SIZE(sizes); k++) {
			struct hk_err err = HK_ERR_INIT;

			hk_store_le32(size, sizes[k]);
			assert_int_equal(
				read_image(image.data, image.len, vmlinux, &err), -EBADMSG);
		}
		for (int off = -1; off <= 1; off += 2) {
			struct hk_err err = HK_ERR_INIT;

			hk_store_le32(size, (uint32_t)vmlinux.len + (uint32_t)off);
			assert_int_equal(
				read_image(image.data, image.len, vmlinux, &err), -EBADMSG);
		}
		free(image.data);
	}
	free(vmlinux.data);
}

static void test_cut_short(void **state)
{
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 200);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes image = fx_bzimage(FX_RELEASE, packs[i], vmlinux);
		size_t needed = FX_SETUP_BYTES + 100 + hk_load_le32(image.data + 0x24c);

		for (size_t len = 0; len <= image.len; len++) {
			struct hk_err err = HK_ERR_INIT;
			uint8_t *cut = malloc(len + (len == 0));
			int r;

			memcpy(cut, image.data, len);
			r = read_image(cut, len, vmlinux, &err);
			free(cut);
			if (len < 0x206) {
				assert_int_equal(r, -ENOEXEC);
			} else {
				assert_int_equal(r, len < needed ? -EBADMSG : 0);
			}
		}
		free(image.data);
	}
	free(vmlinux.data);
}

/* No byte may crash us; what has a checksum may not come out differently either. */
static void test_each_byte_damaged(void **state)
{
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 200);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes image = fx_bzimage(FX_RELEASE, packs[i], vmlinux);

		for (size_t pos = 0; pos < image.len; pos++) {
			struct hk_err err = HK_ERR_INIT;
			int r;

			image.data[pos] ^= 0x55;
			r = read_image(image.data, image.len, vmlinux, &err);
			image.data[pos] ^= 0x55;
			if (packs[i] != HK_PACK_LZ4 && packs[i] != HK_PACK_LZMA) {
				assert_true(r <= 0);
			}
		}
		free(image.data);
	}
	free(vmlinux.data);
}

static void test_few_sectors(void **state)
{
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 200);
	struct fx_bytes image = fx_bzimage(FX_RELEASE, HK_PACK_GZIP, vmlinux);
	struct hk_err err = HK_ERR_INIT;

	/* setup_sects 0 means 4: one sector more than the fixture has, so the payload is nearer. */
	image.data[0x1f1] = 0;
	hk_store_le32(image.data + 0x248, (uint32_t)(100 - 512));
	assert_int_equal(read_image(image.data, image.len, vmlinux, &err), -EBADMSG);
	image.data = realloc(image.data, image.len + 512);
	memmove(image.data + FX_SETUP_BYTES + 512, image.data + FX_SETUP_BYTES,
		image.len - FX_SETUP_BYTES);
	hk_store_le32(image.data + 0x248, 100);
	assert_int_equal(read_image(image.data, image.len + 512, vmlinux, &err), 0);
	free(image.data);
	free(vmlinux.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_compression),
		cmocka_unit_test(test_damaged_fields),
		cmocka_unit_test(test_damaged_size),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_each_byte_damaged),
		cmocka_unit_test(test_few_sectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
