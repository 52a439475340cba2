/* SPDX-License-Identifier: ISC */
/* What option values mean. Nothing here looks at the host. */
#ifndef HK_CLI_PARSE_H
#define HK_CLI_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/**
 * struct hk_share_spec - a parsed "HOST[:GUEST][:MODE]", MODE being ro, rw, cow, dax, ro,dax or
 * rw,dax
 * @host: as given; owned
 * @guest: as given, or NULL; owned
 */
struct hk_share_spec {
	char *host;
	char *guest;
	bool writable;
	bool cow;
	bool dax;
};

/** hk_share_spec_parse() - Return: 0, or -errno with the option named in @err */
int hk_share_spec_parse(const char *text, struct hk_share_spec *ret_spec, struct hk_err *err);
void hk_share_spec_finish(struct hk_share_spec *spec);

/** hk_disk_spec_parse() - "FILE[:ro|rw]"; writable if nothing is said */
int hk_disk_spec_parse(const char *text, char **ret_path, bool *ret_read_only, struct hk_err *err);

/** hk_duration_parse() - "30", "30s", "500ms", "5m", "2h"; more than nothing. Return: 0 or -EINVAL.
 */
int hk_duration_parse(const char *text, uint64_t *ret_ns);

/**
 * hk_path_absolute() - @path from the root, by the letter: no ".", no empty parts
 * @dir: absolute; what a relative @path starts from
 * @ret_path: owned by the caller
 *
 * ".." stays: where it leads only the file system knows.
 */
int hk_path_absolute(const char *dir, const char *path, char **ret_path);

/** hk_path_has_dotdot() - is there a ".." in it? */
bool hk_path_has_dotdot(const char *path);

#endif
