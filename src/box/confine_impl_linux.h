/* SPDX-License-Identifier: ISC */
/* The stages of confinement: see confine.h. */
#ifndef HK_BOX_CONFINE_IMPL_LINUX_H
#define HK_BOX_CONFINE_IMPL_LINUX_H

#include "base/landlock_linux.h"
#include "box/confine.h"

/* With a sanitizer's runtime, which makes system calls and starts threads of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HK_CONFINE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define HK_CONFINE_SANITIZED 1
#endif
#endif
#ifndef HK_CONFINE_SANITIZED
#define HK_CONFINE_SANITIZED 0
#endif

/* The rules for @needs, to be made while paths can be named. Return: a descriptor, or -errno. */
int hk_landlock_rules(int abi, const struct hk_confine_needs *needs, struct hk_err *err);

bool hk_seccomp_offered(void);
/* Return: how many system calls are allowed, or -errno. */
int hk_seccomp_restrict(const struct hk_confine_needs *needs, struct hk_err *err);

#endif
