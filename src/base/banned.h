/* SPDX-License-Identifier: ISC */
/*
 * Functions that we do not call, poisoned: naming one is a compile error.
 *
 *	strcpy, strcat, stpcpy, sprintf, vsprintf	no bound: hk_fmt(), struct hk_str
 *	strncpy, strncat				no NUL, or a bound of the wrong thing: the
 *same strtok						hidden state: strcspn(), strsep() atoi,
 *atol, atoll, atof				no errors: hk_parse_uint(), hk_parse_size() alloca
 *no bound, no failure: an array, hk_malloc()
 *	gets, tmpnam, tempnam, mktemp			never right
 *
 * Meant to be forced into every file with -include. A poisoned name must not even be declared
 * afterwards, so the headers that declare these come first.
 */
#ifndef HK_BASE_BANNED_H
#define HK_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Poisoning a macro draws a warning; fortified headers define some of these as such. */
#undef strcpy
#undef strcat
#undef stpcpy
#undef sprintf
#undef vsprintf
#undef strncpy
#undef strncat
#undef strtok
#undef alloca

#pragma GCC poison strcpy strcat stpcpy sprintf vsprintf strncpy strncat strtok
#pragma GCC poison atoi atol atoll atof alloca gets tmpnam tempnam mktemp

#endif
