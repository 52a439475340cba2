/* SPDX-License-Identifier: ISC */
/* The guest agent in this program: a whole program for x86-64 that needs no loader. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/kernel.h"

static void test_static_program(void **state)
{
	Elf64_Ehdr header;
	size_t len;
	const uint8_t *blob = hk_guest_blob(&len);

	assert_true(len > sizeof(header));
	memcpy(&header, blob, sizeof(header));
	assert_memory_equal(header.e_ident, ELFMAG "\2\1", 6);
	assert_int_equal(header.e_machine, EM_X86_64);
	assert_true(header.e_phnum > 0);
	assert_true(header.e_phoff + header.e_phnum * sizeof(Elf64_Phdr) <= len);
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;

		memcpy(&segment, blob + header.e_phoff + i * sizeof(segment), sizeof(segment));
		assert_int_not_equal(segment.p_type, PT_INTERP);
		assert_true(segment.p_offset + segment.p_filesz <= len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_static_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
