/* SPDX-License-Identifier: ISC */
/* The inside of guest memory: what mem.c asks of the platform for windows (window_linux.c). */
#ifndef HK_ENGINE_MEM_IMPL_H
#define HK_ENGINE_MEM_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/mem.h"

/**
 * hk_window_guard() - from now on the monitor may touch this memory, whatever is mapped there
 *
 * Sets handlers for SIGBUS and SIGSEGV the first time; those of before get what lies elsewhere.
 *
 * Return: 0, or -ENOSPC for too many windows.
 */
int hk_window_guard(const void *start, uint64_t len_bytes);
void hk_window_unguard(const void *start); /* before it is unmapped; fine if it is not guarded */

#endif
