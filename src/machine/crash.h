/* SPDX-License-Identifier: ISC */
/* What a vCPU was doing when it gave up: for the one line, and the dump, that a user is shown. */
#ifndef HK_MACHINE_CRASH_H
#define HK_MACHINE_CRASH_H

#include "engine/engine.h"

enum { HK_CRASH_BYTES = 16, HK_CRASH_LINE = 192 };

/**
 * struct hk_crash - a vCPU at its end
 * @state: all of it; valid where @known
 * @code: the bytes at RIP, @code_len of them: fewer where memory ends, none where RIP is not mapped
 */
struct hk_crash {
	bool known;
	unsigned vcpu;
	struct hk_vcpu_state state;
	uint8_t code[HK_CRASH_BYTES];
	unsigned code_len;
};

/** hk_crash_note() - take it from a vCPU that is not running; its thread */
void hk_crash_note(struct hk_crash *crash, struct hk_vcpu *vcpu, const struct hk_mem *mem);

/** hk_crash_line() - "at RIP 0x...: 0f 0b ...", or "" where nothing is known */
void hk_crash_line(const struct hk_crash *crash, char ret_line[HK_CRASH_LINE]);

/**
 * hk_crash_dump() - registers, line by line
 * @number: from 0 up
 *
 * Return: false where there is no such line.
 */
bool hk_crash_dump(const struct hk_crash *crash, unsigned number, char ret_line[HK_CRASH_LINE]);

#endif
