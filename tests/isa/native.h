/* SPDX-License-Identifier: ISC */
/* Running test cases on the real CPU, in a sandboxed process. */
#ifndef HK_TESTS_ISA_NATIVE_H
#define HK_TESTS_ISA_NATIVE_H

#include "case.h"

enum { ISA_BATCH = 128, ISA_BATCHES = 2 };

struct isa_native;

/** isa_native_create() - Return: NULL where the host cannot do it; a line on stderr says why. */
struct isa_native *isa_native_create(void);
void isa_native_destroy(struct isa_native *native);

/** isa_native_cases() - the cases of batch @batch (0 or 1), to be filled in. Not while it runs. */
struct isa_case *isa_native_cases(struct isa_native *native, unsigned batch);

/**
 * isa_native_start() - begin to run the first @count cases of a batch. One batch runs at a time.
 */
void isa_native_start(struct isa_native *native, unsigned batch, unsigned count);

/** isa_native_wait() - until the batch has run. Return: its results. */
const struct isa_result *isa_native_wait(struct isa_native *native, unsigned batch);

/** isa_native_code32() - can the host run 32-bit code for us? */
bool isa_native_code32(const struct isa_native *native);

/** isa_native_fsgsbase() - are FS and GS base ours to set? */
bool isa_native_fsgsbase(const struct isa_native *native);

/** isa_native_features() - bits 1 << enum hk_feature that user code can use here */
uint32_t isa_native_features(void);

#endif
