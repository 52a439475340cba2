/* SPDX-License-Identifier: ISC */
/*
 * Programs for the kernel's filter of system calls, put together an instruction at a time.
 *
 * A jump says how many instructions it skips, where its condition holds and where not. One whose
 * length is not known yet is made with 0, and gets it from hk_bpf_land() when what it jumps over is
 * there.
 */
#ifndef HK_BASE_BPF_LINUX_H
#define HK_BASE_BPF_LINUX_H

#include <linux/filter.h>
#include <stdint.h>

#include "base/err.h"

enum { HK_BPF_MAX = 1024 };

/** struct hk_bpf - a program; zero-initialize */
struct hk_bpf {
	struct sock_filter code[HK_BPF_MAX];
	unsigned length;
};

/** hk_bpf_load() - the word at this offset of struct seccomp_data becomes the accumulator */
void hk_bpf_load(struct hk_bpf *bpf, uint32_t offset);
/**
 * hk_bpf_load_arg() - the low half of an argument of the call: all that the kernel takes of an int
 */
void hk_bpf_load_arg(struct hk_bpf *bpf, unsigned arg);
/** hk_bpf_and() - leave only these bits of the accumulator */
void hk_bpf_and(struct hk_bpf *bpf, uint32_t bits);
/** hk_bpf_return() - the end, with this verdict */
void hk_bpf_return(struct hk_bpf *bpf, uint32_t verdict);

/**
 * hk_bpf_if() - compare the accumulator
 * @test: BPF_JEQ, BPF_JGE, BPF_JGT or BPF_JSET
 * @skip: so many instructions where it holds; @else_skip: where it does not
 *
 * Return: the jump, for hk_bpf_land().
 */
unsigned hk_bpf_if(
	struct hk_bpf *bpf, uint16_t test, uint32_t value, uint8_t skip, uint8_t else_skip);
/** hk_bpf_jump() - over any number of instructions. Return: the jump */
unsigned hk_bpf_jump(struct hk_bpf *bpf);
/**
 * hk_bpf_land() - @jump leads here; of hk_bpf_if(), where its condition does not hold, at most 255
 * instructions on
 */
void hk_bpf_land(struct hk_bpf *bpf, unsigned jump);

/**
 * hk_bpf_restrict() - the calling thread, and what it starts, for good. Takes no_new_privs. Return:
 * 0 or -errno
 */
int hk_bpf_restrict(struct hk_bpf *bpf, struct hk_err *err);

#endif
