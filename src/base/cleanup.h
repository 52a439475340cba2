/* SPDX-License-Identifier: ISC */
/*
 * Cleanup of locals at the end of their scope, and transfer of ownership.
 *
 *	autofree char *path = NULL;
 *	autoclose int fd = open(...);
 *	...
 *	out->fd = take_fd(&fd);		// now *out owns it
 *
 * Functions that use these do not also use goto. [STYLE 19]
 */
#ifndef HK_BASE_CLEANUP_H
#define HK_BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HK_CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void hk_cleanup_free(void *pointer_to_pointer)
{
	free(*(void **)pointer_to_pointer);
}

/* Closes and forgets; keeps errno, so it can stand on an error path. */
static inline void hk_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
		*fd = -1;
	}
}

static inline void hk_cleanup_fclose(FILE **file)
{
	if (*file != NULL) {
		fclose(*file);
	}
}

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define autofree   HK_CLEANUP(hk_cleanup_free)
#define autoclose  HK_CLEANUP(hk_close)
#define autofclose HK_CLEANUP(hk_cleanup_fclose)

#define take_ptr(p) \
	({ \
		__typeof__(p) *hk_from_ = &(p); \
		__typeof__(p) hk_taken_ = *hk_from_; \
		*hk_from_ = NULL; \
		hk_taken_; \
	})

#endif
