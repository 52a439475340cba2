/* SPDX-License-Identifier: ISC */
/*
 * Programs for the kernel's filter of system calls: see bpf_linux.h.
 *
 * Limits: what a filter is made of is ours, so one that is too long, or has a jump that is too far,
 * is a mistake in this program, and is asserted.
 */
#include "base/bpf_linux.h"

#include <assert.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned emit(struct hk_bpf *bpf, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	assert(bpf->length < HK_BPF_MAX);
	bpf->code[bpf->length] = (struct sock_filter){code, jt, jf, k};
	return bpf->length++;
}

void hk_bpf_load(struct hk_bpf *bpf, uint32_t offset)
{
	emit(bpf, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

void hk_bpf_load_arg(struct hk_bpf *bpf, unsigned arg)
{
	hk_bpf_load(bpf, (uint32_t)offsetof(struct seccomp_data, args) + 8 * arg);
}

void hk_bpf_and(struct hk_bpf *bpf, uint32_t bits)
{
	emit(bpf, BPF_ALU | BPF_AND | BPF_K, bits, 0, 0);
}

void hk_bpf_return(struct hk_bpf *bpf, uint32_t verdict)
{
	emit(bpf, BPF_RET | BPF_K, verdict, 0, 0);
}

unsigned hk_bpf_if(
	struct hk_bpf *bpf, uint16_t test, uint32_t value, uint8_t skip, uint8_t else_skip)
{
	return emit(bpf, (uint16_t)(BPF_JMP | BPF_K | test), value, skip, else_skip);
}

unsigned hk_bpf_jump(struct hk_bpf *bpf)
{
	return emit(bpf, BPF_JMP | BPF_JA, 0, 0, 0);
}

void hk_bpf_land(struct hk_bpf *bpf, unsigned jump)
{
	struct sock_filter *from = &bpf->code[jump];
	unsigned distance = bpf->length - jump - 1;

	if (BPF_OP(from->code) == BPF_JA) {
		from->k = distance;
	} else {
		assert(distance <= UINT8_MAX);
		from->jf = (uint8_t)distance;
	}
}

int hk_bpf_restrict(struct hk_bpf *bpf, struct hk_err *err)
{
	struct sock_fprog program = {.len = (unsigned short)bpf->length, .filter = bpf->code};

	/*
	 * Older kernels would slow the process down against speculation, which no filter changes.
	 */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
		       &program) < 0
		? hk_fail(err, errno, "seccomp")
		: 0;
}
