/* SPDX-License-Identifier: ISC */
/*
 * Functions that we do not call, poisoned: naming one is a compile error. The build forces this
 * file into every other with -include.
 *
 *  - strcpy, strcat, stpcpy, sprintf, vsprintf: no bound; use hk_fmt() or struct hk_str
 *  - strncpy, strncat: no NUL, or a bound of the wrong thing; likewise
 *  - strtok: hidden state; use strcspn() or strsep()
 *  - atoi, atol, atoll, atof: no errors; use hk_parse_uint() or hk_parse_size()
 *  - alloca: no bound and no failure; use an array or hk_malloc()
 *  - gets, tmpnam, tempnam, mktemp: never right
 *
 * A poisoned name must not even be declared afterwards, so the headers that declare these come
 * first.
 */
#ifndef HK_BASE_BANNED_H
#define HK_BASE_BANNED_H

#ifndef __ASSEMBLER__

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

#endif /* __ASSEMBLER__ */

#endif
